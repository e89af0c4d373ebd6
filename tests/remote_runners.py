"""Runners for tests, built by the GNU compilers: zig's C library for each processor takes a minute."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from unfoldc.kernels.artifact import Artifact
from unfoldc.targets import find_target
from unfoldc.targets.description import Target
from unfoldc.targets.remote.connect import Job
from unfoldc.targets.remote.runner_build import MACROS, PORTS, Kind, runner_path, solver_sources
from unfoldc.targets.remote.runner_sources import runner_sources

STRICT = (
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-Wconversion",
    "-Wdouble-promotion",
    "-Wshadow",
    "-Wmissing-prototypes",
    "-Werror",
)


def build_with(
    compiler: str, artifact: Artifact, folder: Path, flags: Sequence[str] = ("-static",), kind: Kind = "program"
) -> Path:
    """The runner in `folder`; warnings in it are errors."""
    folder.mkdir(exist_ok=True)
    solver = solver_sources(artifact, find_target("host"))
    ours = runner_sources(artifact, PORTS[kind])
    for name, text in {**solver, **ours}.items():
        (folder / name).write_text(text, encoding="utf-8")
    common = [*flags, *MACROS[kind], "-std=c99", "-O1", "-DUNFOLDC_RUNNER_ROWS=4"]
    for sources, extra in ((ours, STRICT), (solver, ())):
        names = [n for n in sources if n.endswith(".c")]
        subprocess.run([compiler, *extra, *common, "-c", *names], cwd=folder, check=True, timeout=120)
    objects = [Path(n).with_suffix(".o").name for n in {**solver, **ours} if n.endswith(".c")]
    made = folder / ("solver.runner" if kind == "program" else "solver.so")
    subprocess.run([compiler, *flags, *objects, "-lm", "-o", made], cwd=folder, check=True, timeout=120)
    return made


def build_library_with(compiler: str, artifact: Artifact, folder: Path) -> Path:
    """The runner as a library for TVM's RPC server, in `folder`."""
    return build_with(compiler, artifact, folder, ("-shared", "-fPIC"), "library")


def children() -> set[int]:
    """Processes of this one that have not been waited for."""
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def job(artifact: Artifact, runner: Path, target: str = "host") -> Job:
    """A job whose runner is built already."""
    return Job(artifact, find_target(target), lambda kind, cpu: runner, lambda text: None)


def quick_build_runner(
    artifact: Artifact, target: Target, folder: Path, *, kind: Kind = "program", cpu: str = "", **_: object
) -> Path:
    """`runner_build.build_runner` by the GNU compilers, with the same names."""
    final = runner_path(artifact, target, folder, kind, cpu)
    if not final.exists():
        compiler = "gcc" if target.kind == "host" else "aarch64-linux-gnu-gcc"
        scratch = folder / ".scratch"
        made = (
            build_with(compiler, artifact, scratch)
            if kind == "program"
            else build_library_with(compiler, artifact, scratch)
        )
        made.replace(final)
        shutil.rmtree(scratch)
    return final
