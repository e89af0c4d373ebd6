"""cuBLAS by ctypes, where its bindings in nvmath-python are not installed but the library is, as with PyTorch's CUDA.

Has the few functions that `runtime/cuda/cublas.py` calls, under the names that the bindings give them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Any

_FILES = ("libcublas.so.13", "libcublas.so.12", "cublas64_13.dll", "cublas64_12.dll")
_INT, _PLACE, _HANDLE = ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
_GEMM = (
    _HANDLE, _INT, _INT, _INT, _INT, _INT, _PLACE, _PLACE, _INT, _PLACE, _INT, _PLACE, _PLACE, _INT,
)  # fmt: skip


class Operation(IntEnum):
    """cublasOperation_t."""

    N = 0
    T = 1


class Math(IntEnum):
    """cublasMath_t."""

    DEFAULT_MATH = 0
    TF32_TENSOR_OP_MATH = 3


class cuBLASError(Exception):  # noqa: N801
    """A status that is not success."""


class CublasLibrary:
    """The library's functions; `library` is what ctypes loaded."""

    Operation, Math = Operation, Math
    cuBLASError = cuBLASError  # noqa: N815

    def __init__(self, library: Any) -> None:
        def function(name: str, arguments: Sequence[Any]) -> Callable[..., None]:
            found = getattr(library, name)
            found.argtypes, found.restype = arguments, _INT

            def call(*values: Any) -> None:
                status = found(*values)
                if status:
                    raise cuBLASError(f"status {status} of {name}")

            return call

        self._create = function("cublasCreate_v2", (_PLACE,))
        self.destroy = function("cublasDestroy_v2", (_HANDLE,))
        self.set_math_mode = function("cublasSetMathMode", (_HANDLE, _INT))
        self.set_stream = function("cublasSetStream_v2", (_HANDLE, _PLACE))
        self.set_workspace = function("cublasSetWorkspace_v2", (_HANDLE, _PLACE, ctypes.c_size_t))
        self.sgemm = function("cublasSgemm_v2", _GEMM)
        self.dgemm = function("cublasDgemm_v2", _GEMM)

    def create(self) -> int:
        """A handle for the context that is current."""
        handle = ctypes.c_void_p()
        self._create(ctypes.addressof(handle))
        return int(handle.value or 0)


def find_cublas() -> CublasLibrary | None:
    """The library that this process has loaded already, that the loader finds, or that a package brought; or None."""
    for name in _FILES:
        with suppress(OSError):
            return CublasLibrary(ctypes.CDLL(name))
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        return CublasLibrary(ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path))
    except Exception:  # the package, or its own class for a library that it does not find
        return None
