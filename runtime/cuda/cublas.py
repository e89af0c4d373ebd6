"""NVIDIA's library of matrix products, by way of its bindings in nvmath-python or of ours."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from unfoldc.errors import DeviceError, ToolError
from unfoldc.runtime.cuda.cublas_library import find_cublas

INSTALL = 'python -m pip install nvmath-python "nvidia-cublas>=13"'
_KINDS = {"float32": ctypes.c_float, "float64": ctypes.c_double}


class Cublas:
    """A handle of the library for the context that is current. One thread at a time uses it, within `within`.

    `api` is `nvmath.bindings.cublas`, or what behaves alike; `tf32` lets products of float32 round their factors to 10
    bits, which nothing else does. Raises ToolError where the library is not installed.
    """

    def __init__(self, tf32: bool, api: Any = None) -> None:
        self.api = _bindings() if api is None else api
        self._lock = threading.Lock()
        try:
            self.handle = self.api.create()
        except self.api.cuBLASError as error:
            raise _failed("opening cuBLAS", error) from None
        except Exception as error:  # the bindings' own classes for a library that is not there lie deep within them
            said = " ".join(str(error).split())[:200]
            raise _missing(f"cuBLAS cannot be loaded ({type(error).__name__}: {said})") from None
        mode = self.api.Math.TF32_TENSOR_OP_MATH if tf32 else self.api.Math.DEFAULT_MATH
        self.api.set_math_mode(self.handle, int(mode))
        self._numbers = {t: {v: kind(v) for v in (-1, 0, 1)} for t, kind in _KINDS.items()}
        self._operations = int(self.api.Operation.N), int(self.api.Operation.T)
        self._functions = {"float32": self.api.sgemm, "float64": self.api.dgemm}

    @contextmanager
    def within(self, stream: int, workspace: int, size: int) -> Iterator[None]:
        """Products go into a stream and have `size` bytes of memory there, so that they allocate none."""
        with self._lock:
            try:
                self.api.set_stream(self.handle, stream)  # which forgets the workspace
                self.api.set_workspace(self.handle, workspace, size)
                yield
            except self.api.cuBLASError as error:
                raise _failed("a matrix product", error) from None

    def product(
        self, dtype: str, shape: Sequence[int], transposed: bool, sign: int, adds: bool
    ) -> tuple[Any, tuple[Any, ...], int]:
        """The function for `out = sign * x w^T (+ out)`, its arguments before those of arrays, and that before out.

        The others are w's address and the step between its rows, those of x, and at the end those of out. shape: rows
        of x and out, their columns m and n: w is (m, n), or (n, m) where it is transposed. The library has columns
        where we have rows: our C = X W^T, read its way, is C^T = W X^T, and it finds W^T and X^T in memory.
        """
        rows, m, n = shape
        none, transpose = self._operations
        numbers = self._numbers[dtype]
        alpha, beta = (ctypes.addressof(numbers[v]) for v in (sign, int(adds)))
        before = self.handle, none if transposed else transpose, none, m, rows, n, alpha
        return self._functions[dtype], before, beta

    def close(self) -> None:
        """Give the handle back."""
        handle, self.handle = self.handle, 0
        if handle:
            with suppress(self.api.cuBLASError):  # the GPU is lost then, which other calls say
                self.api.destroy(handle)


def workspace_bytes(architecture: int) -> int:
    """The memory that NVIDIA recommends for products on a GPU."""
    return (32 if architecture >= 90 else 4) << 20


def _bindings() -> Any:
    try:
        from nvmath.bindings import cublas
    except ImportError as error:
        found = find_cublas()
        if found is None:
            raise _missing(f"the package nvmath-python cannot be imported ({error}), nor cuBLAS found") from None
        return found
    return cublas


def _missing(found: str) -> ToolError:
    return ToolError(
        "back end cuda, products of large weights", found, "cuBLAS with its bindings, for batches as large as this",
        f"Install it: {INSTALL}.",
    )  # fmt: skip


def _failed(doing: str, error: Exception) -> DeviceError:
    return DeviceError(
        f"back end cuda, {doing}", f"cuBLAS answers {error}", "success", "See NVIDIA's list of cuBLAS errors."
    )
