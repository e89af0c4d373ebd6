"""CMake's side of a project: the build file, presets, one toolchain file for each compiler."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.targets.description import Core, Target
from unfoldc.targets.project.places import Place
from unfoldc.targets.project.templates import fill
from unfoldc.targets.toolchains import FAST_MATH
from unfoldc.targets.tools import DEBIAN_PACKAGES

_LINK_DEVICE = """\
    target_link_options(${program} PRIVATE "-T${CMAKE_CURRENT_SOURCE_DIR}/platform/emulator.ld")
    set_target_properties(${program} PROPERTIES LINK_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/platform/emulator.ld")
"""


def cmake_files(
    symbol: str, version: str, target: Target, place: Place, sources: Sequence[str], objects: Sequence[str]
) -> dict[str, str]:
    """Everything that CMake reads; `objects` are files of machine code that belong to the solver."""
    core = target.core
    assert core is not None
    linux = bool(core.linux)
    libraries = ["m"] if linux else []
    libraries += [f'"${{CMAKE_CURRENT_SOURCE_DIR}}/{name}"' for name in objects]
    joined = " ".join(libraries)
    values = {
        "S": symbol,
        "VERSION": version,
        "TARGET": target.name,
        "SOURCES": " ".join(sources),
        "FAST_MATH": " ".join(FAST_MATH),
        "LIBRARIES": f"target_link_libraries(unfoldc_{symbol} PUBLIC {joined})\n" if libraries else "",
        "LINK": "" if linux else _LINK_DEVICE,
    }
    found = {"CMakeLists.txt": fill("CMakeLists.txt", values), "CMakePresets.json": fill("CMakePresets.json", values)}
    kind = "linux" if linux else "metal"
    values |= _compiler_values(core, target.spec.word_bits, place)
    for compiler, where in (("gcc", "CMAKE_C_FLAGS_INIT"), ("clang", "CMAKE_EXE_LINKER_FLAGS_INIT")):
        specs = fill("specs.cmake", {"WHERE": where}) if core.architecture == "riscv" else ""
        given = {**values, "SPECS": specs, "FLAGS": " ".join(compiler_flags(core, compiler))}
        found[f"cmake/{compiler}.cmake"] = fill(f"{compiler}_{kind}.cmake", given)
    entry = "" if linux else 'set(CMAKE_EXE_LINKER_FLAGS_INIT "-Wl,--entry=unfoldc_firmware_reset")\n'
    found["cmake/zig.cmake"] = fill("zig.cmake", {**values, "FLAGS": " ".join(_zig_flags(core)), "ENTRY": entry})
    found["cmake/emulator.cmake"] = fill("emulator.cmake", values)
    if place.script:
        found["platform/emulator.ld"] = place.script
    return found


def gnu_packages(core: Core) -> str:
    """The Debian packages with the GNU compiler and its C library."""
    return DEBIAN_PACKAGES[f"{core.gnu_prefix}gcc"]


def compiler_flags(core: Core, compiler: str) -> tuple[str, ...]:
    """The flags with which "gcc" or "clang" compiles for `core`."""
    flags = tuple(flag for flag in core.gnu_flags if flag != "-no-pie")  # the linker's: programs are static
    if compiler == "gcc" and core.name == "cortex-m55":
        # gcc 12 makes the mask of a selection between vectors of Helium from its first element alone.
        return tuple(f"{flag}+nomve" if flag.startswith("-mcpu=") else flag for flag in flags)
    if compiler == "clang" and core.architecture == "thumb":
        only = (flag for flag in core.flags if flag.startswith("-fno-"))
        return (*flags, *only, "-fshort-enums")  # enums as in the GNU libraries
    return flags


def _compiler_values(core: Core, bits: int, place: Place) -> dict[str, str]:
    clang = {"thumb": "arm-none-eabi", "riscv": f"riscv{bits}-unknown-elf", "aarch64": "aarch64-linux-gnu"}
    return {
        "SYSTEM": "Linux" if core.linux else "Generic",
        "PROCESSOR": {"thumb": "arm", "riscv": f"riscv{bits}", "aarch64": "aarch64"}[core.architecture],
        "PREFIX": core.gnu_prefix,
        "PACKAGES": gnu_packages(core),
        "CLANG_TARGET": clang[core.architecture],
        "GNU_FLAGS": " ".join(core.gnu_flags),
        "EMULATOR_NAME": place.name,
        "EMULATOR": " ".join(place.command),
    }


def _zig_flags(core: Core) -> tuple[str, ...]:
    if core.linux:
        return tuple(core.linux if flag == core.flags[1] else flag for flag in core.flags)
    return (*core.flags, "-fhosted")
