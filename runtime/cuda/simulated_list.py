"""A list of launches in numba's simulator: kernels of a few threads, products by NumPy in the arrays' precision."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from unfoldc.runtime.cuda.launch_facts import Parameter
from unfoldc.runtime.cuda.launch_list import LaunchList, MatrixProduct, Rows

_BLOCKS, _THREADS = 2, 4
Arrays = Mapping[tuple[str, int], Any]


def run_list(
    found: LaunchList, parameters: Sequence[Parameter], arrays: Arrays, launch: Callable[..., None], stamped: bool
) -> None:
    """Solve with all launches in order. `arrays` by role and index; `launch(kernel, blocks, threads, arguments)`.

    `stamped`: the time before and after each part goes to the array `ticks`, in nanoseconds.
    """
    batch = int(arrays["batch", 0])
    stamps = [time.perf_counter_ns()]
    for k, items in found.parts(int(arrays["iterations", 0])):
        for item in items:
            if isinstance(item, MatrixProduct):
                multiply(item, k, batch, lambda rows: _rows(found, arrays, batch, rows))
                continue
            arguments = [np.int32(k) if p.role == "iterations" else arrays[p.role, p.index] for p in parameters]
            launch(item.kernel, _BLOCKS, _THREADS, arguments)
        stamps.append(time.perf_counter_ns())
    if stamped:
        arrays["ticks", 0][: len(stamps) - 1], arrays["ticks", 0][-1] = stamps[:-1], stamps[-1]


def multiply(p: MatrixProduct, k: int, batch: int, memory: Callable[[Rows], np.ndarray]) -> None:
    """A product of iteration k; `memory` gives the elements from a row of a buffer on."""
    shape = (p.n, p.m) if p.transposed else (p.m, p.n)
    weights = _matrix(memory(p.weights)[k * p.per_iteration :], shape, p.weights.step)
    x = _matrix(memory(p.x), (batch * p.rows, p.n), p.x.step)
    out = _matrix(memory(p.out), (batch * p.rows, p.m), p.out.step)
    with np.errstate(all="ignore"):
        answer = p.sign * (x @ (weights if p.transposed else weights.T))
        out[...] = out + answer if p.adds else answer


def _matrix(elements: np.ndarray, shape: tuple[int, int], step: int) -> np.ndarray:
    if (shape[0] - 1) * step + shape[1] > elements.size:
        raise ValueError(f"a matrix of {shape} with {step} elements from row to row in {elements.size} elements")
    return as_strided(elements, shape, (step * elements.itemsize, elements.itemsize))


def _rows(found: LaunchList, arrays: Arrays, batch: int, rows: Rows) -> np.ndarray:
    place = found.places[rows.buffer]
    whole: np.ndarray = arrays[place.kind, place.index]
    if place.kind != "workspace":
        return whole[place.first + rows.first :]
    start = place.first * found.reserved(batch)
    return whole[start : start + found.reserved(batch) * place.size * np.dtype(place.dtype).itemsize].view(place.dtype)[
        rows.first :
    ]
