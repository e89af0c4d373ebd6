"""A stand-in for `nvmath.bindings.cublas`: products of matrices stored by columns, on this computer's memory.

It does what the library's manual says of the arguments, with no thought of what a caller means by them.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np


class cuBLASError(Exception):  # noqa: N801
    """As the bindings have it."""


class Operation(IntEnum):
    N = 0
    T = 1


class Math(IntEnum):
    DEFAULT_MATH = 0
    TF32_TENSOR_OP_MATH = 3


@dataclass
class FakeCublas:
    """The library; `calls` records what was asked for."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    handles: set[int] = field(default_factory=set)
    missing: bool = False
    failing: bool = False
    mode: int = -1
    stream: int = -1
    workspace: tuple[int, int] = (0, 0)
    capturing: set[int] = field(default_factory=set)

    Operation = Operation
    Math = Math
    cuBLASError = cuBLASError  # noqa: N815

    def create(self) -> int:
        if self.missing:
            raise RuntimeError("libcublas.so.13: cannot open shared object file")
        handle = 77 + len(self.calls)
        self.handles.add(handle)
        return handle

    def destroy(self, handle: int) -> None:
        self.handles.remove(handle)

    def set_math_mode(self, handle: int, mode: int) -> None:
        assert handle in self.handles
        self.mode = mode

    def set_stream(self, handle: int, stream: int) -> None:
        assert handle in self.handles
        self.stream, self.workspace = stream, (0, 0)

    def set_workspace(self, handle: int, address: int, size: int) -> None:
        assert handle in self.handles and address % 256 == 0 and size
        self.workspace = address, size

    def sgemm(self, *arguments: Any) -> None:
        self._product("float32", ctypes.c_float, *arguments)

    def dgemm(self, *arguments: Any) -> None:
        self._product("float64", ctypes.c_double, *arguments)

    def _product(
        self, dtype: str, number: Any, handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int,
        a: int, lda: int, b: int, ldb: int, beta: int, c: int, ldc: int,
    ) -> None:  # fmt: skip
        """C = alpha op(A) op(B) + beta C, op(A) m by k, op(B) k by n; C is not read where beta is 0."""
        assert handle in self.handles and self.workspace != (0, 0), "no workspace: the library would allocate"
        if self.failing:
            raise cuBLASError("CUBLAS_STATUS_EXECUTION_FAILED")
        by, plus = (number.from_address(address).value for address in (alpha, beta))
        self.calls.append((dtype, transa, transb, m, n, k, by, a, lda, b, ldb, plus, c, ldc, self.stream))
        if self.stream in self.capturing:
            return
        left = _columns(a, (k, m) if transa else (m, k), lda, number, dtype)
        right = _columns(b, (n, k) if transb else (k, n), ldb, number, dtype)
        out = _columns(c, (m, n), ldc, number, dtype)
        with np.errstate(all="ignore"):
            total = by * ((left.T if transa else left) @ (right.T if transb else right))
            out[...] = total + plus * out if plus else total


def _columns(address: int, shape: tuple[int, int], step: int, number: Any, dtype: str) -> np.ndarray:
    """A matrix of which element (i, j) lies at i + j * step."""
    rows, columns = shape
    assert step >= max(1, rows), f"a leading dimension of {step} for {rows} rows"
    memory = (number * ((columns - 1) * step + rows)).from_address(address)
    whole = np.frombuffer(memory, dtype)
    width = whole.itemsize
    return np.lib.stride_tricks.as_strided(whole, shape, (width, step * width))
