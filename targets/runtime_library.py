"""The compiler's run-time library (sinf, soft float), built anew where the one that comes with it cannot be linked."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from unfoldc.targets.description import Core, require_packages
from unfoldc.targets.toolchains import Progress, build_folder, cache_folder, library_name, publish, run_compiler

# Without -fno-builtin the loop of memset would become a call of memset.
_OPTIONS = ("-OReleaseFast", "-fno-builtin", "-ffunction-sections", "-fdata-sections", "-fstrip", "-fno-unwind-tables")


def runtime_objects(core: Core, *, progress: Progress | None = None, timeout: float = 600.0) -> tuple[Path, ...]:
    """What a program for `core` is linked with so that zig's own library is not; empty where that one is right.

    zig builds its library for addresses below 2 GiB. A 64-bit RISC-V whose memory begins there takes one that reaches
    what is near, wherever that is (`Core.runtime_model`); it is built once, in seconds, and kept in the compiler's
    cache. Raises ToolError.
    """
    if not core.runtime_model:
        return ()
    purpose = f"building the run-time library for {core.name}"
    require_packages(["ziglang"], purpose)
    selected = [*core.flags[: core.flags.index("-target") + 2], *(f for f in core.flags if f.startswith("-mcpu="))]
    arguments = [*selected, f"-mcmodel={core.runtime_model}", *_OPTIONS]
    made = cache_folder() / f"runtime-{library_name(arguments)}.o"
    if not made.is_file():
        with build_folder(made.parent, {}) as temporary:
            run_compiler(
                [str(_source()), *arguments, "-femit-bin=runtime.o"],
                temporary,
                purpose,
                library_key=arguments,
                tool="build-obj",
                progress=progress,
                timeout=timeout,
            )
            publish(temporary / "runtime.o", made)
    return (made,)


def _source() -> Path:
    spec = find_spec("ziglang")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "lib" / "compiler_rt.zig"
