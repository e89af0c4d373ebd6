"""The C compiler: clang as the PyPI package `ziglang` brings it, for the host and for bare metal alike."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from unfoldc.errors import ToolError
from unfoldc.targets.description import require_packages

Progress = Callable[[str], None]
logger = logging.getLogger("unfoldc.targets")

# Sums may be reordered and contracted; NaN and Inf keep their meaning, so that a diverging solver is seen.
FAST_MATH = (
    "-fassociative-math",
    "-fno-signed-zeros",
    "-fno-trapping-math",
    "-fno-math-errno",
    "-ffp-contract=fast",
)
# zig replaces -O3 by -O2; only -Xclang gets it through. It saves 40 % of a Cortex-M4's instructions in a matrix-vector
# product that the compiler has to unroll by itself, and changes nothing in one with four sums side by side.
OPTIMISE = ("-O3", "-Xclang", "-O3", "-fomit-frame-pointer", "-g0")
# Clang 22 packs the unrolled loops of a matrix of order 2 into vectors with wrong operands: an LU factorisation within
# a Kalman filter was wrong by a factor. Loops are vectorised all the same, and run as fast.
UNPACKED = ("-fno-slp-vectorize",)
C99 = ("-std=c99", "-Wall", "-Wextra")
STRICT = ("-Wconversion", "-Wdouble-promotion", "-Werror")
# Undefined behaviour ends in a trap instruction: zig ships no sanitizer run-time library.
SANITIZE = ("-fsanitize=undefined", "-fsanitize-trap=undefined")


def cache_folder() -> Path:
    """The compiler's cache, `unfoldc/zig` in the user's cache folder, created if need be; else `ToolError`."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the XDG rules say that unset, empty and relative mean the default
        base = Path("~/.cache").expanduser()
    folder = base / "unfoldc" / "zig"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ToolError(
            where="the C compiler's cache",
            found=f"{folder} cannot be created ({e.strerror})",
            allowed="a folder that the user may write",
            do="Set XDG_CACHE_HOME to one.",
        ) from e
    return folder


def run_compiler(
    arguments: Sequence[str],
    folder: Path,
    purpose: str,
    *,
    library_key: Sequence[str] = (),
    tool: str = "cc",
    progress: Progress | None = None,
    timeout: float = 600.0,
) -> None:
    """Run `python -m ziglang cc`, or another `tool` of zig, with `arguments` in `folder`.

    `library_key` names the flags that select a variant of the compiler's run-time library; the first build for each
    takes several seconds more, which `progress` (default: the log) is told. `timeout` in seconds. A missing compiler,
    its first error or the time limit end in `ToolError`; `CompilerError`, its subclass, carries the whole output.
    """
    require_packages(["ziglang"], purpose)
    cache = cache_folder()
    marker = cache / f"ready-{library_name(library_key)}"
    if not marker.exists():
        (progress or logger.info)(
            "preparing the C compiler for this target, the first time only: 10 s, for Linux a minute or two"
        )
    # Relative names and a neutral language keep messages and output free of this machine's paths and locale.
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache), "LC_ALL": "C"}
    command = [sys.executable, "-m", "ziglang", tool, *arguments]
    logger.debug("%s: %s", purpose, " ".join(command))
    done = finished(command, folder, environment, purpose, timeout, "the C compiler")
    if done.returncode:
        raise CompilerError(purpose, done.stderr or done.stdout, done.returncode)
    if done.stderr.strip():
        logger.debug("%s: %s", purpose, done.stderr)
    marker.touch()


def finished(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], purpose: str, timeout: float, name: str
) -> subprocess.CompletedProcess[str]:
    """What a compiler of this name said and how it ended; `ToolError` where it did not within `timeout` seconds."""
    try:
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise ToolError(
            where=purpose,
            found=f"{name} had not finished after {timeout:.0f} s",
            allowed="compilation within the time limit",
            do="Try a smaller model or a longer limit, and see whether the machine is overloaded.",
        ) from None


class CompilerError(ToolError):
    """The C compiler or linker refused; `output` is all it said, the message only its first error."""

    def __init__(self, purpose: str, output: str, status: int) -> None:
        do = "Generated sources should: please report this with the model; check flags and objects of your own."
        if "No space left on device" in output:
            do = "Make room on the disks of temporary files and of the cache (XDG_CACHE_HOME)."
        elif "unknown CPU" in output:
            do = "Correct the name of the processor, cpu= in the address; zig knows it as `zig targets` lists it."
        super().__init__(
            where=purpose,
            found=f"the C compiler stopped: {first_error(output) or f'exit status {status}, no message'}",
            allowed="C99 sources that compile and link",
            do=do,
        )
        self.output = output


def first_error(output: str) -> str:
    """The first error in the compiler's output, on one line, with the place of the first use for a linker's error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for i, line in enumerate(lines):
        if re.search(r"\berror:", line):
            use = lines[i + 1] if i + 1 < len(lines) and lines[i + 1].startswith(">>>") else ""
            return f"{line} ({use.removeprefix('>>>').strip()})" if use else line
    return lines[-1] if lines else ""


@contextmanager
def build_folder(folder: Path, sources: Mapping[str, str]) -> Iterator[Path]:
    """A temporary folder inside `folder` that holds `sources`; what is worth keeping is moved out of it by `publish`.

    Several builds may run in one `folder` at a time; each has its own temporary folder, and nothing half-written stays.
    """
    wrong = [name for name in sources if Path(name).name != name or name in (".", "..")]
    if wrong:
        raise ToolError(
            where="compiled sources",
            found=f"'{wrong[0]}' is not a plain file name",
            allowed="file names without folders",
            do="Compile the model again; the saved sources were altered.",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".build-", dir=folder))
    except OSError as e:
        raise ToolError(
            where=f"build folder {folder}",
            found=f"it cannot be written ({e.strerror})",
            allowed="a folder that the user may write",
            do="Choose another folder.",
        ) from e
    try:
        for name, text in sources.items():
            (temporary / name).write_text(text, encoding="utf-8")
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish(file: Path, destination: Path) -> Path:
    """Put a finished file in its place in one step, so that a reader sees the old one or the new one, never a part."""
    os.replace(file, destination)
    return destination


def library_name(key: Sequence[str]) -> str:
    """A short name for what the compiler in use makes of the flags `key`."""
    version = importlib.metadata.version("ziglang")
    return hashlib.sha256("\0".join([version, *key]).encode()).hexdigest()[:16]
