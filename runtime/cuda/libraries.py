"""Arrays of other libraries that lie on a GPU: where they are, on which stream to work, how to make new ones.

No library is imported here; whoever passes one of its arrays has done so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from unfoldc.errors import InputError
from unfoldc.runtime.cuda.dlpack import CUDA, MANAGED, read_capsule, row_major
from unfoldc.runtime.cuda.own_array import CudaArray

if TYPE_CHECKING:
    from unfoldc.runtime.cuda.code import DeviceCode
    from unfoldc.runtime.cuda.engine import CudaEngine

LEGACY = 1
"""The driver's handle of the default stream, which waits for all others that do not ask to be left alone."""


@dataclass(frozen=True, slots=True)
class View:
    """An array as a kernel sees it. `dtype` is None for a type that NumPy lacks, `stream` what it says of itself.

    `kept` is what keeps the memory alive.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    contiguous: bool
    ordinal: int
    kept: Any
    writable: bool = True
    stream: int | None = None


class Library(Protocol):
    """What is to be known of a library's arrays."""

    advice: str
    """How its user makes an array contiguous and of a type, with `{dtype}` in it."""

    def on_gpu(self, array: Any) -> bool:
        """Whether the array lies on a GPU."""
        ...

    def view(self, array: Any, where: str, engine: CudaEngine) -> View:
        """The array's view; InputError for one that cannot be seen."""
        ...

    def stream(self, views: Sequence[View], code: DeviceCode) -> int:
        """The stream in which its user would have the work done now."""
        ...

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], code: DeviceCode, stream: int) -> tuple[Any, int]:
        """A new array, and the address of its memory."""
        ...

    def finished(self, array: Any) -> Any:
        """What is handed to the caller once the work that fills the array is in the stream."""
        ...


class Torch:
    """PyTorch: tensors from its own allocator, its current stream."""

    advice = "Pass it as tensor.to(torch.{dtype}).contiguous()."

    def __init__(self) -> None:
        torch = sys.modules["torch"]
        self._torch: Any = torch
        names = ("float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "bool", "complex64")
        self._dtypes = {getattr(torch, n): np.dtype(n) for n in names if hasattr(torch, n)}
        self._own = {dtype: own for own, dtype in self._dtypes.items()}
        raw = getattr(getattr(torch, "_C", None), "_cuda_getCurrentRawStream", None)
        self.current: Callable[[int], int] = raw or (lambda ordinal: torch.cuda.current_stream(ordinal).cuda_stream)
        self.new: Callable[..., Any] = torch.empty
        self.tensor: type = torch.Tensor
        self._devices: dict[int, Any] = {}

    def on_gpu(self, array: Any) -> bool:
        return bool(array.is_cuda)

    def view(self, array: Any, where: str, engine: CudaEngine) -> View:
        if array.requires_grad and self._torch.is_grad_enabled():
            found = "a tensor that requires a gradient, which a compiled solver does not have"
            raise InputError(where, found, "tensors without", "Pass tensor.detach(), or call under torch.no_grad().")
        strided = array.layout is self._torch.strided and not array.is_neg()
        dtype = self._dtypes.get(array.dtype)
        contiguous = strided and array.is_contiguous()
        address = array.data_ptr() if strided else 0
        return View(address, tuple(array.shape), dtype, contiguous, array.get_device(), array)

    def stream(self, views: Sequence[View], code: DeviceCode) -> int:
        return int(self.current(code.ordinal))

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], code: DeviceCode, stream: int) -> tuple[Any, int]:
        tensor = self.new(shape, dtype=self._own[dtype], device=self.device(code.ordinal))
        return tensor, int(tensor.data_ptr())

    def finished(self, array: Any) -> Any:
        return array

    def device(self, ordinal: int) -> Any:
        """PyTorch's name of a GPU."""
        found = self._devices.get(ordinal)
        if found is None:
            found = self._devices[ordinal] = self._torch.device("cuda", ordinal)
        return found

    def own(self, dtype: np.dtype[Any]) -> Any:
        """PyTorch's element type for one of NumPy's; None where it has none."""
        return self._own.get(dtype)


class Cupy:
    """CuPy: arrays from its own memory pool, its current stream."""

    advice = "Pass it as cupy.ascontiguousarray(array, {dtype!r})."

    def __init__(self) -> None:
        self._cupy: Any = sys.modules["cupy"]

    def on_gpu(self, array: Any) -> bool:
        return True

    def view(self, array: Any, where: str, engine: CudaEngine) -> View:
        contiguous = bool(array.flags.c_contiguous)
        return View(int(array.data.ptr), tuple(array.shape), array.dtype, contiguous, int(array.device.id), array)

    def stream(self, views: Sequence[View], code: DeviceCode) -> int:
        return int(self._cupy.cuda.get_current_stream(code.ordinal).ptr)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], code: DeviceCode, stream: int) -> tuple[Any, int]:
        with self._cupy.cuda.Device(code.ordinal):
            array = self._cupy.empty(shape, dtype)
        return array, int(array.data.ptr)

    def finished(self, array: Any) -> Any:
        return array


class Interface:
    """Anything with `__cuda_array_interface__`: the answers are `CudaArray`s, the stream is the one it names."""

    advice = "Pass a contiguous array of type {dtype}."

    def on_gpu(self, array: Any) -> bool:
        return True

    def view(self, array: Any, where: str, engine: CudaEngine) -> View:
        facts = array.__cuda_array_interface__
        if facts.get("mask") is not None:
            raise InputError(where, "a masked array", "an array without a mask", "Fill the masked entries.")
        dtype, shape = np.dtype(facts["typestr"]), tuple(facts["shape"])
        address, read_only = facts["data"]
        strides = facts.get("strides")
        contiguous = strides is None or row_major(shape, tuple(strides), dtype.itemsize)
        ordinal = engine.driver().ordinal_of(address) if address else 0
        return View(int(address or 0), shape, dtype, contiguous, ordinal, array, not read_only, facts.get("stream"))

    def stream(self, views: Sequence[View], code: DeviceCode) -> int:
        return next((view.stream for view in views if view.stream), LEGACY)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], code: DeviceCode, stream: int) -> tuple[Any, int]:
        array = CudaArray(code, shape, dtype, stream)
        return array, array.address

    def finished(self, array: Any) -> Any:
        return array


class Dlpack(Interface):
    """Anything else that DLPack knows: it hands its data over to a stream of ours."""

    def on_gpu(self, array: Any) -> bool:
        return array.__dlpack_device__()[0] in (CUDA, MANAGED)

    def view(self, array: Any, where: str, engine: CudaEngine) -> View:
        ordinal = int(array.__dlpack_device__()[1])
        stream = int(engine.code(ordinal).stream)
        try:
            capsule = array.__dlpack__(stream=stream)
            tensor = read_capsule(capsule)
        except (ValueError, TypeError, RuntimeError, BufferError) as error:
            raise InputError(where, f"no array ({error})", "an array that DLPack exports", "Pass another.") from None
        return View(
            tensor.address, tensor.shape, tensor.dtype, tensor.contiguous, ordinal, (array, capsule), tensor.writable,
            stream,
        )  # fmt: skip

    def stream(self, views: Sequence[View], code: DeviceCode) -> int:
        return int(code.stream)


class Jax(Dlpack):
    """JAX, whose arrays are never written to: it takes the answers over from memory of ours."""

    advice = "Pass it as array.astype({dtype!r})."

    def view(self, array: Any, where: str, engine: CudaEngine) -> View:
        seen = super().view(array, where, engine)
        return View(seen.address, seen.shape, seen.dtype, seen.contiguous, seen.ordinal, seen.kept, False, seen.stream)

    def finished(self, array: Any) -> Any:
        return sys.modules["jax"].dlpack.from_dlpack(array)


_NAMED: dict[str, Callable[[], Library]] = {"torch": Torch, "cupy": Cupy, "jax": Jax, "jaxlib": Jax}
_known: dict[type, Library | None] = {np.ndarray: None}
_shared: dict[Callable[[], Library], Library] = {}


def library_of(array: Any) -> Library | None:
    """The library of an array that lies on a GPU; None for everything else."""
    kind = type(array)
    try:
        library = _known[kind]
    except KeyError:
        library = _known[kind] = _find(kind)
    if library is None and kind is not np.ndarray and hasattr(array, "__cuda_array_interface__"):
        library = _the(Interface)  # of this one object, not of its class
    return library if library is not None and library.on_gpu(array) else None


def _find(kind: type) -> Library | None:
    make: Callable[[], Library] | None = None
    for base in kind.__mro__:
        make = make or _NAMED.get(base.__module__.partition(".")[0])
    if make is None and hasattr(kind, "__cuda_array_interface__"):
        make = Interface
    if make is None and hasattr(kind, "__dlpack__") and hasattr(kind, "__dlpack_device__"):
        make = Dlpack
    return None if make is None else _the(make)


def _the(make: Callable[[], Library]) -> Library:
    if make not in _shared:
        _shared[make] = make()
    return _shared[make]
