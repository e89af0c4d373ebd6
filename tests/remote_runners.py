"""Runners for tests, built by the GNU compilers: zig's C library for each processor takes a minute."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from unfoldc.kernels.artifact import Artifact
from unfoldc.targets import find_target
from unfoldc.targets.remote.connect import Job
from unfoldc.targets.remote.runner_sources import runner_sources

STRICT = ("-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Wshadow", "-Wmissing-prototypes", "-Werror")


def build_with(compiler: str, artifact: Artifact, folder: Path, flags: Sequence[str] = ("-static",)) -> Path:
    """The runner with standard input and output, in `folder`; warnings in it are errors."""
    folder.mkdir(exist_ok=True)
    sources = {n: t for n, t in artifact.sources.items() if not n.endswith("_host.c")}
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


def job(artifact: Artifact, runner: Path, target: str = "host") -> Job:
    """A job whose runner is built already."""
    return Job(artifact, find_target(target), lambda kind, cpu: runner, lambda text: None)
