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
from unfoldc.targets.remote.runner_build import Kind, runner_path, solver_sources
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


def build_with(compiler: str, artifact: Artifact, folder: Path, flags: Sequence[str] = ("-static",)) -> Path:
    """The runner with standard input and output, in `folder`; warnings in it are errors."""
    folder.mkdir(exist_ok=True)
    sources = solver_sources(artifact, find_target("host"))
    sources |= runner_sources(artifact, ("port_posix.c",))
    for name, text in sources.items():
        (folder / name).write_text(text, encoding="utf-8")
    program = folder / "solver.runner"
    ours = [n for n in sources if n.startswith(("unfoldc", "port"))]
    for files, extra in ((ours, STRICT), ([n for n in sources if n not in ours], ())):
        names = [n for n in files if n.endswith(".c")]
        options = [*extra, *flags, "-std=c99", "-O1", "-DUNFOLDC_RUNNER_ROWS=4", "-c"]
        subprocess.run([compiler, *options, *names], cwd=folder, check=True, timeout=120)
    objects = [Path(n).with_suffix(".o").name for n in sources if n.endswith(".c")]
    subprocess.run([compiler, *flags, *objects, "-lm", "-o", program], cwd=folder, check=True, timeout=120)
    return program


def build_library_with(compiler: str, artifact: Artifact, folder: Path) -> Path:
    """The runner as a library for TVM's RPC server, in `folder`."""
    folder.mkdir(exist_ok=True)
    sources = solver_sources(artifact, find_target("host"))
    sources |= runner_sources(artifact, ("port_tvm.c",))
    for name, text in sources.items():
        (folder / name).write_text(text, encoding="utf-8")
    names = [n for n in sources if n.endswith(".c")]
    options = ["-std=c99", "-O1", "-Wall", "-Wextra", "-shared", "-fPIC", "-DUNFOLDC_RUNNER_ROWS=4"]
    subprocess.run([compiler, *options, *names, "-lm", "-o", "solver.so"], cwd=folder, check=True, timeout=120)
    return folder / "solver.so"


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
