"""Runs a solver that was compiled to a shared library (from C, or by TVM), through ctypes."""

from __future__ import annotations

import ctypes
import importlib
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unfoldc.errors import ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.direct_call import direct_call

# A NumPy array object is the object header followed by the address of its elements: NumPy's C interface (PyArray_DATA)
# promises that to every extension. `array.ctypes.data` takes 0.9 us, which is more than many a solve.
_DATA = object.__basicsize__
_ALIGNMENT = 64
# The start of the driver's struct `prepared`: workspace, batch, iterations; for each array the place where its address
# stands follows, which is within the array object. ctypes passes `bytes` as the address of their content and takes
# 0.1 us for it; converting five arguments takes 0.6 us.
_PREPARED = "@Pqq"
# Operations up to which a bound call keeps the GIL: some 20 us at 50 Gflop/s.
_SHORT_FLOPS = 10**6


def address(array: np.ndarray) -> int:
    """The address of the first element."""
    return ctypes.c_void_p.from_address(id(array) + _DATA).value or 0


def aligned(size: int) -> tuple[int, np.ndarray]:
    """Memory whose address is a multiple of a cache line: the address, and the array that keeps it alive."""
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = address(memory)
    return start + -start % _ALIGNMENT, memory


class Workspace:
    """An aligned block of memory, and tables of addresses for solvers with several inputs or outputs."""

    def __init__(self, size: int, inputs: int, outputs: int) -> None:
        self.address, self.memory = aligned(size)
        self.inputs: Any = (ctypes.c_void_p * max(inputs, 1))()
        self.outputs: Any = (ctypes.c_void_p * max(outputs, 1))()
        self.tables = ctypes.addressof(self.inputs), ctypes.addressof(self.outputs)

    def fill(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> tuple[int, int]:
        """Write the arrays' addresses into the tables; the addresses of these."""
        for i, array in enumerate(inputs):
            self.inputs[i] = address(array)
        for i, array in enumerate(outputs):
            self.outputs[i] = address(array)
        return self.tables


class PreparedCall:
    """A call of the driver with its arguments packed, by ctypes, which releases the GIL; `kept` stays alive with it."""

    __slots__ = ("_answer", "_call", "kept", "record")

    def __init__(self, call: Callable[[bytes], None], record: bytes, answer: Any, kept: Sequence[Any]) -> None:
        self._call, self.record, self._answer, self.kept = call, record, answer, kept

    def __call__(self) -> Any:
        """Solve; the answer."""
        self._call(self.record)
        return self._answer


class LibraryEngine:
    """A compiled solver in a shared library; ctypes releases the GIL while it runs.

    Each call takes a workspace from a pool and puts it back (`list.pop` and `append` are atomic), so that threads
    never share one. `group` problems are solved side by side, and so are `fewest` or more of those that are left.
    Raises ToolError where the library cannot be loaded or lacks the entry points.
    """

    group = fewest = 1
    _library: Any = None

    def __init__(self, artifact: Artifact, library: Path) -> None:
        try:
            loaded = ctypes.CDLL(str(library.absolute()))  # a bare name would be looked for among the system's
            size = _entry(loaded, f"{artifact.symbol}_host_workspace", ctypes.c_long)()
            call = _entry(loaded, f"{artifact.symbol}_host_call", None)
            bound = _entry(loaded, f"{artifact.symbol}_host_bound", None)
            profile = _entry(loaded, f"{artifact.symbol}_host_profile", None)
        except (OSError, AttributeError) as error:
            raise ToolError(
                str(library),
                f"cannot be loaded ({error})",
                "a shared library built by unfoldc for this machine",
                "Compile the model again on this machine.",
            ) from None
        if hasattr(loaded, f"{artifact.symbol}_host_group"):
            self.group = int(_entry(loaded, f"{artifact.symbol}_host_group", ctypes.c_long)())
            self.fewest = int(_entry(loaded, f"{artifact.symbol}_host_fewest", ctypes.c_long)())
        self._library = loaded
        self._bind(artifact, size, call, bound, profile)

    def unload(self) -> None:
        """Unload the library, where the system lets a process do so; neither the engine nor a bound call is used again.

        Who opens one library after the other would keep the weights of all of them in memory.
        """
        unload = getattr(importlib.import_module("_ctypes"), "dlclose", None)
        if unload is not None and self._library is not None:
            unload(self._library._handle)
        self._library = None

    def _bind(self, artifact: Artifact, size: int, call: Any, bound: Any, profile: Any) -> None:
        """Take the entry points, and the bytes of a workspace."""
        self._size, self._cost = size, artifact.cost
        self._counts = (len(artifact.inputs), len(artifact.outputs))
        self._one, self._two, self._both = self._counts == (1, 1), self._counts == (2, 1), all(self._counts)
        self._pack = struct.Struct(f"{_PREPARED}{'P' * sum(max(1, n) for n in self._counts)}").pack
        pointers = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_int]
        profile.argtypes = [*pointers, ctypes.c_void_p]
        self._call: Callable[[bytes], None] = call
        self._profile: Callable[..., None] = profile
        self._bound: int = ctypes.cast(bound, ctypes.c_void_p).value or 0
        self._pool: list[Workspace] = []

    def solve(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        """Solve `batch` problems with that many iterations; write the answers into `outputs`."""
        try:
            workspace = self._pool.pop()
        except IndexError:
            workspace = self._new_workspace()
        if self._one:
            record = self._pack(workspace.address, batch, iterations, id(inputs[0]) + _DATA, id(outputs[0]) + _DATA)
        elif self._two:  # y and a matrix, say: spelled out it takes 0.3 us less
            first, second, answer = id(inputs[0]) + _DATA, id(inputs[1]) + _DATA, id(outputs[0]) + _DATA
            record = self._pack(workspace.address, batch, iterations, first, second, answer)
        else:
            record = self._pack(workspace.address, batch, iterations, *self._places(inputs, outputs))
        self._call(record)
        self._pool.append(workspace)

    def bind(
        self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int, answer: Any
    ) -> Callable[[], Any]:
        """`solve` with these arguments and a workspace of its own, then `answer`; it allocates nothing.

        A short solve holds the GIL, which would take longer to hand over than the solve itself.
        """
        workspace = self._new_workspace()
        words = (workspace.address, batch, iterations, *self._places(inputs, outputs))
        kept = (workspace, *inputs, *outputs, self)
        if self._is_short(batch, iterations):
            direct = direct_call(self._bound, words, answer, kept)
            if direct is not None:
                return direct
        return PreparedCall(self._call, self._pack(*words), answer, kept)

    def _is_short(self, batch: int, iterations: int) -> bool:
        if self._cost is None:
            return False
        each = self._cost.begin_flops + sum(self._cost.iterate_flops[:iterations]) + self._cost.end_flops
        return batch * each <= _SHORT_FLOPS

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
            workspace = self._new_workspace()
        tables = workspace.fill(inputs, outputs)
        self._profile(workspace.address, *tables, batch, iterations, address(ticks))
        self._pool.append(workspace)

    def _places(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> list[int]:
        """Where the addresses of the arrays stand; one that is not read where there are no arrays."""
        if self._both:
            return [id(array) + _DATA for arrays in (inputs, outputs) for array in arrays]
        return [*([id(array) + _DATA for array in inputs] or [0]), *([id(array) + _DATA for array in outputs] or [0])]

    def _new_workspace(self) -> Workspace:
        return Workspace(self._size, *self._counts)


def _entry(library: ctypes.CDLL, name: str, result: Any) -> Any:
    function = library[name]
    function.restype = result
    return function


def _check_layout() -> None:
    probe = np.zeros(1)
    if address(probe) != probe.ctypes.data:
        raise ImportError(
            "this build of NumPy or Python lays out arrays differently; engine_library.address must be adapted"
        )


_check_layout()
