"""Calls with arrays that lie on a GPU: checked, launched on the caller's stream, answered by arrays of one kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unfoldc.errors import InputError
from unfoldc.kernels.artifact import Port
from unfoldc.runtime.cuda.code import DeviceCode
from unfoldc.runtime.cuda.engine import CudaEngine, check_batch
from unfoldc.runtime.cuda.libraries import Library, View, library_of
from unfoldc.runtime.ports import common_batch


@dataclass(frozen=True, slots=True)
class Given:
    """Arrays of a call as kernels see them: all on one GPU, of the ports' types and shapes."""

    views: tuple[View, ...]
    libraries: tuple[Library, ...]
    code: DeviceCode
    batch: int

    @property
    def library(self) -> Library:
        """The library of the first array, which makes the answers."""
        return self.libraries[0]

    def stream(self) -> int:
        """The stream to work in, which waits for what other libraries do in theirs."""
        first = self.library.stream(self.views, self.code)
        others = {library.stream(self.views, self.code) for library in self.libraries if library is not self.library}
        others |= {view.stream for view in self.views if view.stream}
        for other in others - {first}:
            self.code.wait(first, other)
        return first

    def stream_of_calls(self) -> Callable[[], int]:
        """`stream`, for calls with the same arrays again; shorter where no stream has to wait for another."""
        library, views, code = self.library, self.views, self.code
        several = any(other is not library for other in self.libraries) or any(view.stream for view in views)
        return self.stream if several else lambda: library.stream(views, code)


def any_on_gpu(arrays: Sequence[Any]) -> bool:
    """Whether a call is one for this module."""
    return any(library_of(array) is not None for array in arrays)


def given(engine: CudaEngine, arrays: Sequence[Any], batch: int | None) -> Given:
    """The inputs of a call, checked. `batch`: the one fixed at compile time.

    Raises InputError for arrays elsewhere than on one GPU, of another type or shape, or not contiguous.
    """
    ports = engine.artifact.inputs
    seen = [look(f"input {port.name}", port, array, engine) for port, array in zip(ports, arrays, strict=True)]
    views, libraries = tuple(view for view, _ in seen), tuple(library for _, library in seen)
    _same_gpu(ports, views)
    found = common_batch(ports, views, batch)
    check_batch(found)
    return Given(views, libraries, engine.code(views[0].ordinal), found)


def look(where: str, port: Port, array: Any, engine: CudaEngine) -> tuple[View, Library]:
    """An array's view and library; InputError for what a kernel cannot take as it is."""
    library = library_of(array)
    if library is None:
        found = f"{type(array).__name__}, which is not on a GPU, among arrays that are"
        raise InputError(where, found, "all arrays on one GPU, or none", "Copy it there first.")
    view = library.view(array, where, engine)
    if view.dtype != np.dtype(port.dtype):
        found = f"element type {getattr(array, 'dtype', 'unknown') if view.dtype is None else view.dtype}"
        allowed = f"{port.dtype} exactly, for nothing is converted on a GPU"
        raise InputError(where, found, allowed, library.advice.format(dtype=port.dtype))
    if not view.contiguous:
        allowed = "rows one after the other"
        raise InputError(where, "an array that is not contiguous", allowed, library.advice.format(dtype=port.dtype))
    return view, library


def _same_gpu(ports: Sequence[Port], views: Sequence[View]) -> None:
    for port, view in zip(ports, views, strict=True):
        if view.ordinal != views[0].ordinal:
            raise InputError(
                f"input {port.name}", f"on GPU {view.ordinal}", f"GPU {views[0].ordinal}, where {ports[0].name} is",
                "Copy all inputs to one GPU.",
            )  # fmt: skip


def solve(engine: CudaEngine, arrays: Given, iterations: int) -> list[Any]:
    """Put one launch into the caller's stream; the answers, which are there once the stream gets that far."""
    code, batch, library = arrays.code, arrays.batch, arrays.library
    with code.driver.within(code.context):
        stream = arrays.stream()
        answers = [
            library.empty((batch, *p.shape) if p.batched else p.shape, np.dtype(p.dtype), code, stream)
            for p in engine.artifact.outputs
        ]
        if batch:
            kernel = code.kernel(batch)
            words = code.arguments(
                kernel, [view.address for view in arrays.views], [address for _, address in answers], batch, iterations,
                code.workspace(kernel, stream),
            )  # fmt: skip
            code.launch(kernel, words, kernel.blocks(batch), stream)
        return [library.finished(array) for array, _ in answers]
