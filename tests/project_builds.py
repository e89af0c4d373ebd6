"""Builds a written project with CMake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run(folder: Path, *command: str, status: int | None = 0) -> str:
    """Everything that a command says; it must end with this status (None: with any)."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=600
    )
    text = done.stdout + done.stderr
    assert status is None or done.returncode == status, f"{' '.join(command)}: {done.returncode}\n{text}"
    return text


def build(folder: Path, preset: str, *options: str) -> None:
    """Configure and build, the runner too, with every warning an error, none of the linker's allowed either."""
    symbol = next(folder.glob("*_weights.c")).name.removesuffix("_weights.c")
    run(folder, "cmake", "--preset", preset, "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON", *options)
    text = run(folder, "cmake", "--build", "--preset", preset, "--target", "all", f"unfoldc_{symbol}_runner")
    assert "warning" not in text.lower(), text
