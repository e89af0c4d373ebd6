"""Builds a written project with CMake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from unfoldc.targets.toolchains import cache_folder


def run(folder: Path, *command: str, status: int | None = 0) -> str:
    """Everything that a command says; it must end with this status (None: with any)."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # zig finds the run-time libraries that it has compiled for this project's own builds.
    environment = {**os.environ, "PATH": path, "ZIG_GLOBAL_CACHE_DIR": str(cache_folder())}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)
    text = done.stdout + done.stderr
    assert status is None or done.returncode == status, f"{' '.join(command)}: {done.returncode}\n{text}"
    return text


def build(folder: Path, preset: str, *options: str) -> None:
    """Configure and build, the runner too, with every warning an error, none of the linker's allowed either."""
    symbol = next(folder.glob("*_weights.c")).name.removesuffix("_weights.c")
    run(folder, "cmake", "--preset", preset, "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON", *options)
    text = run(folder, "cmake", "--build", "--preset", preset, "--target", "all", f"unfoldc_{symbol}_runner")
    assert "warning" not in text.lower(), text
