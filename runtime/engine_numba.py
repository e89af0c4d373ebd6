"""Runs a solver that was printed for Numba: its source lives in the user's cache, beside Numba's machine code.

The cached machine code is a pickle, so it stays in that folder, which is as private as the user's home: a build folder
that is passed on holds source text only.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from unfoldc.errors import ToolError
from unfoldc.kernels.artifact import Artifact

_ALIGNMENT = 64
_importing = threading.Lock()


class NumbaEngine:
    """A solver compiled by Numba in this process, or loaded from the user's cache; calls release the GIL.

    Each call takes a workspace from a pool and puts it back (`list.pop` and `append` are atomic), so that threads never
    share one. Raises ToolError where Numba is missing or refuses the source.
    """

    def __init__(self, artifact: Artifact) -> None:
        module = _module(artifact.sources[f"{artifact.symbol}.py"])
        self._solve = module.solve
        self._size: int = module.WORKSPACE_BYTES
        self._weights = [_gather(artifact, *group) for group in module.WEIGHTS]
        self._addresses = [array.ctypes.data for array in self._weights]
        self._no_ticks = np.empty(0, np.uint64)
        self._pool: list[tuple[int, np.ndarray]] = []

    def solve(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        """Solve `batch` problems with that many iterations; write the answers into `outputs`."""
        try:
            workspace = self._pool.pop()
        except IndexError:
            workspace = _aligned(self._size)
        self._solve(workspace[0], *self._addresses, *inputs, *outputs, batch, iterations, self._no_ticks)
        self._pool.append(workspace)

    def profile(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        batch: int,
        iterations: int,
        ticks: np.ndarray,
    ) -> None:
        """Like `solve`, and add the ticks of begin, of each iteration and of end to the K + 2 items of `ticks`."""
        try:
            workspace = self._pool.pop()
        except IndexError:
            workspace = _aligned(self._size)
        self._solve(workspace[0], *self._addresses, *inputs, *outputs, batch, iterations, ticks)
        self._pool.append(workspace)


def prepare() -> None:
    """Loads Numba and its tables, which takes half a second once per process; the first engine does it otherwise."""
    try:
        from numba.core.registry import cpu_target
    except ImportError as error:
        raise ToolError(
            "backend numba",
            f"Numba cannot be imported ({error})",
            "Numba 0.60 or later",
            "Install it: pip install numba.",
        ) from None
    cpu_target.target_context.refresh()


def _module(source: str) -> ModuleType:
    """The module of this source, imported once per process."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:32]
    name = f"unfoldc_numba_{digest}"
    with _importing:
        if name in sys.modules:
            return sys.modules[name]
        prepare()
        module = sys.modules[name] = _new_module(name, source, digest)
        try:
            code = compile(source, getattr(module, "__file__", None) or f"<{name}>", "exec")
            exec(code, module.__dict__)
        except BaseException as error:
            del sys.modules[name]
            from numba.core.errors import NumbaError

            if not isinstance(error, NumbaError | SyntaxError):
                raise
            raise ToolError(
                f"{name}.py", f"Numba refuses it ({error})", "source printed by this version of unfoldc",
                "Compile the model again; if it stays, use backend='c'.",
            ) from error  # fmt: skip
        return module


def _new_module(name: str, source: str, digest: str) -> ModuleType:
    """An empty module; it has a `__file__`, and with it a cache, where the user's cache can be written."""
    try:
        path = _write(_cache_folder() / digest / f"{name}.py", source)
    except (OSError, RuntimeError):  # nowhere to write, or no home
        return ModuleType(name)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    return importlib.util.module_from_spec(spec)


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "unfoldc" / "numba"


def _write(path: Path, source: str) -> Path:
    """Writes the source unless it is there. Its time stamp is fixed: Numba takes another one for another source."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as aside:  # also finds out whether Numba can write here
        if not path.is_file() or path.read_bytes() != source.encode():
            part = Path(aside) / path.name
            part.write_bytes(source.encode())
            os.utime(part, (0, 0))
            os.replace(part, path)
    return path


def _gather(artifact: Artifact, dtype: str, elements: int, entries: tuple[tuple[str, int], ...]) -> np.ndarray:
    """All constants of one type in one aligned array."""
    address, memory = _aligned(elements * np.dtype(dtype).itemsize)
    start = address - memory.ctypes.data
    array = memory[start : start + elements * np.dtype(dtype).itemsize].view(dtype)
    for name, first in entries:
        values = np.asarray(artifact.weights[name], dtype).ravel()
        array[first : first + values.size] = values
    return array


def _aligned(size: int) -> tuple[int, np.ndarray]:
    """Memory whose address is a multiple of a cache line: the address, and the array that keeps it alive."""
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    address = int(memory.ctypes.data)
    return address + -address % _ALIGNMENT, memory
