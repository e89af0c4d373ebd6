"""An array on a GPU that unfoldc owns: what a call returns to libraries that lend no memory of their own."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from unfoldc.runtime.cuda.dlpack import CUDA, make_capsule

if TYPE_CHECKING:
    from unfoldc.runtime.cuda.code import DeviceCode


class CudaArray:
    """`shape`, `dtype` and memory at `address` on a GPU, for libraries that know `__cuda_array_interface__` or DLPack.

    `numpy()` copies it to this computer. The memory is used again once no array needs it, except that of an
    array that a CUDA graph fills.
    """

    def __init__(self, code: DeviceCode, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int) -> None:
        self.shape, self.dtype, self.stream = shape, dtype, stream
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self._code, self._owner = code, code.owner()
        self.address, returns = code.lend(self.nbytes, stream)
        if returns:
            weakref.finalize(self, code.memory.give_back, self.address).atexit = False

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False), "version": 3,
            "strides": None, "stream": self.stream or 1,
        }  # fmt: skip

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self._code.ordinal

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        if stream is not None and stream != -1 and stream != self.stream:
            self._code.wait(stream or 1, self.stream)
        return make_capsule(self, self.address, self.shape, self.dtype, self._code.ordinal)

    def numpy(self) -> np.ndarray:
        """A copy in this computer's memory."""
        return self._code.read(self.address, self.shape, self.dtype, self.stream)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array on a GPU cannot be seen as a NumPy array without a copy")
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def __repr__(self) -> str:
        return f"<CudaArray {self.shape} {self.dtype} on GPU {self._code.ordinal}>"
