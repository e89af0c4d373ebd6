"""Arrays in a fake driver's memory, as torch, CuPy, JAX and unnamed libraries would have them."""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_cuda import FakeDriver

from unfoldc.runtime.cuda import libraries
from unfoldc.runtime.cuda.dlpack import make_capsule


class Base:
    """Memory on a fake GPU that is given back with the array."""

    def __init__(self, api: FakeDriver, values: Any, ordinal: int = 0) -> None:
        array = np.ascontiguousarray(values)
        self.api, self.shape, self.numpy_type, self.ordinal = api, array.shape, array.dtype, ordinal
        self.address = api._allocate(api.others, array.nbytes)
        api.ordinals[self.address] = ordinal
        ctypes.memmove(self.address, array.ctypes.data, array.nbytes)

    def values(self) -> np.ndarray:
        size = int(np.prod(self.shape))
        memory = (ctypes.c_char * (size * self.numpy_type.itemsize)).from_address(self.address)
        return np.frombuffer(memory.raw, self.numpy_type).reshape(self.shape).copy()


class InterfaceArray(Base):
    """Of a library that unfoldc does not know by name."""

    stream: int | None = None
    read_only = False
    strides: tuple[int, ...] | None = None

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape, "typestr": self.numpy_type.str, "data": (self.address, self.read_only),
            "version": 3, "strides": self.strides, "stream": self.stream,
        }  # fmt: skip


class DlpackArray(Base):
    """Of a library that knows DLPack alone."""

    asked: list[Any]

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.ordinal

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        self.asked = [*getattr(self, "asked", []), stream]
        return make_capsule(self, self.address, self.shape, self.numpy_type, self.ordinal)


class JaxArray(DlpackArray):
    __module__ = "jaxlib.xla_extension"


class CupyArray(Base):
    __module__ = "cupy"
    c_contiguous = True

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.numpy_type

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.address)

    @property
    def flags(self) -> Any:
        return SimpleNamespace(c_contiguous=self.c_contiguous)

    @property
    def device(self) -> Any:
        return SimpleNamespace(id=self.ordinal)


class Tensor(Base):
    __module__ = "torch"
    is_cuda = True
    requires_grad = False
    layout = "strided"
    contiguous = True

    @property
    def dtype(self) -> str:
        return sys.intern(f"torch.{self.numpy_type}")  # one object, as PyTorch's are

    def is_neg(self) -> bool:
        return False

    def is_contiguous(self) -> bool:
        return self.contiguous

    def data_ptr(self) -> int:
        return self.address

    def get_device(self) -> int:
        return self.ordinal


class _Device:
    current = 0

    def __init__(self, ordinal: int) -> None:
        self.ordinal = ordinal

    def __enter__(self) -> None:
        _Device.current = self.ordinal

    def __exit__(self, *_: object) -> None:
        _Device.current = 0


def install(api: FakeDriver, patch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Put stand-ins for the libraries where unfoldc finds them; their current streams are `streams`."""
    state = SimpleNamespace(streams={"torch": 71, "cupy": 72}, made=[], gradients=True)

    def empty(kind: type[Base]) -> Any:
        def make(shape: Any, dtype: Any, device: Any = None) -> Base:
            values = np.full(shape, 0x55, str(dtype).removeprefix("torch."))
            array = kind(api, values, _Device.current if device is None else device.ordinal)
            state.made.append(array)
            return array

        return make

    torch, cupy, jax = ModuleType("torch"), ModuleType("cupy"), ModuleType("jax")
    vars(torch).update(
        {name: sys.intern(f"torch.{name}") for name in ("float32", "float64", "int32", "bool", "uint8", "int64")},
        strided="strided",
        is_grad_enabled=lambda: state.gradients,
        empty=empty(Tensor),
        Tensor=Tensor,
        device=lambda kind, ordinal: _Device(ordinal),
        _C=SimpleNamespace(_cuda_getCurrentRawStream=lambda ordinal: state.streams["torch"]),
    )
    vars(cupy).update(
        empty=empty(CupyArray),
        cuda=SimpleNamespace(
            Device=_Device, get_current_stream=lambda ordinal: SimpleNamespace(ptr=state.streams["cupy"])
        ),
    )
    vars(jax).update(dlpack=SimpleNamespace(from_dlpack=lambda array: JaxTaken(api, array)))
    for module in (torch, cupy, jax):
        patch.setitem(__import__("sys").modules, module.__name__, module)
    patch.setattr(libraries, "_known", {np.ndarray: None})
    patch.setattr(libraries, "_shared", {})
    return state


class JaxTaken(DlpackArray):
    """What JAX makes of an array of ours: the same memory, taken over on a stream of its own."""

    __module__ = "jaxlib.xla_extension"

    def __init__(self, api: FakeDriver, array: Any) -> None:
        self.api, self.shape, self.numpy_type, self.ordinal = (
            api,
            array.shape,
            array.dtype,
            array.__dlpack_device__()[1],
        )
        self.capsule, self.address, self.source = array.__dlpack__(stream=73), array.address, array
