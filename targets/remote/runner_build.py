"""The runner of a solver as a program or a library for Linux, built once for each solver, processor and kind."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from unfoldc.errors import TargetError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.boards import all_targets
from unfoldc.targets.description import Target, missing_packages
from unfoldc.targets.remote.protocol import FRAME_BYTES
from unfoldc.targets.remote.runner_sources import identity, port_bytes, runner_sources
from unfoldc.targets.toolchains import (
    C99,
    FAST_MATH,
    OPTIMISE,
    UNPACKED,
    Progress,
    build_folder,
    publish,
    run_compiler,
)

Kind = Literal["program", "library", "firmware"]
"""A program with standard input and output, a library for TVM's RPC, firmware for a board."""
PORTS: Mapping[Kind, tuple[str, ...]] = {
    "program": ("port_posix.c", "port_posix.h"),
    "library": ("port_posix.c", "port_posix.h", "port_tvm.c"),
}
MACROS: Mapping[Kind, tuple[str, ...]] = {"program": (), "library": ("-DUNFOLDC_RUNNER_LIBRARY",)}
_ROWS = 32  # repetitions in one answer
# What a library asks of the C library there; any system of the last ten years has it.
_GLIBC = "gnu.2.17"
_X86 = {512: "x86_64_v4", 256: "x86_64_v3"}


def linux_flags(target: Target, kind: Kind, cpu: str = "") -> tuple[str, ...]:
    """Flags of `zig cc` for a program or library for Linux on `target`; `cpu` names another processor.

    The running computer's own processor need not be the one at the other end: the flags name its generation.
    Raises TargetError for a target without Linux.
    """
    if target.kind == "host":
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
        triple = f"{machine}-linux-musl"
        usual = _X86.get(target.spec.vector_bits, "x86_64_v2") if machine == "x86_64" else "generic"
    elif target.core is not None and target.core.linux:
        triple = target.core.linux
        usual = next((f.removeprefix("-mcpu=") for f in target.flags if f.startswith("-mcpu=")), "generic")
    else:
        raise TargetError(
            where=f"a runner for {target.name}",
            found="this target runs without an operating system",
            allowed=", ".join(t.name for t in all_targets() if t.kind == "host" or (t.core and t.core.linux)),
            do="Put the runner on the board and reach it by serial:, or choose one of these targets.",
        )
    abi = [f for f in target.flags if f.startswith("-mabi=")]
    if kind == "library":
        return ("-target", triple.replace("musl", _GLIBC), f"-mcpu={cpu or usual}", *abi, "-shared", "-fPIC")
    return ("-target", triple, f"-mcpu={cpu or usual}", *abi, "-static")


def runner_path(artifact: Artifact, target: Target, folder: Path, kind: Kind, cpu: str = "") -> Path:
    """Where `build_runner` puts the runner: equal names hold equal solvers, flags, runners and compilers."""
    name = digest_of(artifact, runner_sources(artifact, PORTS[kind]), linux_flags(target, kind, cpu))
    return folder / f"{artifact.symbol}-{name}.{'runner' if kind == 'program' else 'so'}"


def digest_of(artifact: Artifact, sources: Mapping[str, str], flags: Sequence[str]) -> str:
    """24 hexadecimal digits that stand for the solver, what is compiled with it, the flags and the compiler."""
    total = hashlib.sha256(identity(artifact))
    for name, text in sorted(sources.items()):
        total.update(f"\0{name}\0{text}".encode())
    compiler = "" if missing_packages(["ziglang"]) else importlib.metadata.version("ziglang")
    total.update("\0".join([compiler, *flags]).encode())
    return total.hexdigest()[:24]


def most_bytes(artifact: Artifact) -> int:
    """Bytes of the longest answer of a runner that `build_runner` makes."""
    outputs = sum(map(port_bytes, artifact.outputs))
    ports = len(artifact.inputs) + len(artifact.outputs)
    return FRAME_BYTES + max(outputs, 8 * _ROWS * (artifact.iterations + 2), 256 + 4 * ports)


def solver_sources(artifact: Artifact, target: Target) -> dict[str, str]:
    """The solver's own C, without drivers for the host; TargetError where the back end made none."""
    symbol = artifact.symbol
    drivers = (f"{symbol}_host.c", f"{symbol}_lanes.c", f"{symbol}_lanes.h")
    sources = {n: t for n, t in artifact.sources.items() if n.endswith((".c", ".h")) and n not in drivers}
    if f"{symbol}.h" not in sources:
        raise TargetError(
            where=f"a runner for {target.name}",
            found=f"the back end '{artifact.backend}' made no C interface {symbol}.h",
            allowed="back end c or tvm",
            do="Compile with one of these.",
        )
    return sources


def build_runner(
    artifact: Artifact,
    target: Target,
    folder: Path,
    *,
    kind: Kind = "program",
    cpu: str = "",
    objects: Sequence[Path] = (),
    flags: Sequence[str] = (),
    progress: Progress | None = None,
    timeout: float = 600.0,
) -> Path:
    """Compile the runner of `artifact` for Linux on `target` into `folder`, unless it is there, and return its path.

    `objects` are linked too, `flags` added last. Raises TargetError where the target has no Linux or the back end made
    no C interface, ToolError where the compiler fails.
    """
    selection = linux_flags(target, kind, cpu)
    name = runner_path(artifact, target, folder, kind, cpu).name
    if (folder / name).is_file():
        return folder / name
    sources = solver_sources(artifact, target)
    sources |= runner_sources(artifact, PORTS[kind])
    if progress is not None:
        progress(f"building the runner for {target.name}")
    with build_folder(folder, sources) as temporary:
        run_compiler(
            [
                *(*selection, *OPTIMISE, *FAST_MATH, *UNPACKED, *C99, *MACROS[kind], f"-DUNFOLDC_RUNNER_ROWS={_ROWS}"),
                *(n for n in sources if n.endswith(".c")),
                *(str(Path(o).resolve()) for o in objects),
                *flags,
                *("-lm", "-Wl,-s", "-o", name),
            ],
            temporary,
            f"building the runner of {artifact.symbol} for {target.name}",
            library_key=selection,
            progress=progress,
            timeout=timeout,
        )
        return publish(temporary / name, folder / name)
