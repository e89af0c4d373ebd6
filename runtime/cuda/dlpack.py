"""DLPack's structures: a tensor out of a capsule, and a capsule around memory of ours. No copy is made either way."""

from __future__ import annotations

import atexit
import ctypes
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

CUDA = 2
MANAGED = 13
_NAME, _VERSIONED = b"dltensor", b"dltensor_versioned"
_READ_ONLY = 1
# DLPack's kinds of number by NumPy's letters.
_CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
_LETTERS = {code: letter for letter, code in _CODES.items()}


class _Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    """DLManagedTensor."""

    _fields_ = (("tensor", _Tensor), ("manager", ctypes.c_void_p), ("deleter", _Deleter))


class _ManagedVersioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", _Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a capsule describes; the memory lives as long as the capsule. `dtype` is None for a type NumPy lacks."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    contiguous: bool
    device_type: int
    ordinal: int
    writable: bool


def _function(name: str, result: Any, *arguments: Any) -> Any:
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_is_valid = _function("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_pointer = _function("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_new = _function("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


def read_capsule(capsule: Any) -> Tensor:
    """The tensor in a capsule, which is not used up. Raises ValueError for anything else."""
    place = id(capsule)
    if _is_valid(place, _NAME):
        tensor = _Managed.from_address(_pointer(place, _NAME)).tensor
        writable = True
    elif _is_valid(place, _VERSIONED):
        managed = _ManagedVersioned.from_address(_pointer(place, _VERSIONED))
        tensor, writable = managed.tensor, not managed.flags & _READ_ONLY
    else:
        raise ValueError("no DLPack capsule, or one that was used up")
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    strides = tuple(tensor.strides[i] for i in range(tensor.ndim)) if tensor.strides else None
    letter = _LETTERS.get(tensor.code) if tensor.lanes == 1 and not tensor.bits % 8 else None
    try:
        dtype = None if letter is None else np.dtype(f"{letter}{tensor.bits // 8}")
    except TypeError:
        dtype = None
    contiguous = strides is None or row_major(shape, strides)
    address = (tensor.data or 0) + tensor.byte_offset
    return Tensor(address, shape, dtype, contiguous, tensor.device_type, tensor.device_id, writable)


def row_major(shape: tuple[int, ...], strides: tuple[int, ...], unit: int = 1) -> bool:
    """Whether elements of `unit` lie one after the other in memory, the last axis fastest."""
    if 0 in shape:
        return True
    expected = unit
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True


_alive: dict[int, Any] = {}


def _delete(address: int) -> None:
    """The consumer is done: let go of what lies behind the tensor."""
    _alive.pop(address, None)


def _discard(capsule: int) -> None:
    """A capsule that nobody used goes away; one that was used has another name by then."""
    if _is_valid(capsule, _NAME):
        _alive.pop(_pointer(capsule, _NAME), None)


_deleter = _Deleter(_delete)
_destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_discard)


def _at_exit() -> None:
    """Tensors that outlive Python find no deleter, and their structures where they were."""
    for managed, *_ in list(_alive.values()):
        managed.deleter = _Deleter()


atexit.register(_at_exit)
for _kept in (_alive, _deleter, _destructor, _delete, _discard):
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_kept))


def make_capsule(
    owner: Any, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], ordinal: int, device_type: int = CUDA
) -> Any:
    """A capsule of memory on a GPU, row by row, that keeps `owner` alive until the consumer lets go of it."""
    managed = _Managed()
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]  # which DLPack wants said from 1.2 on
    extents, strides = ((ctypes.c_int64 * max(1, len(shape)))(*values) for values in (shape, steps))
    tensor = managed.tensor
    tensor.data, tensor.device_type, tensor.device_id = address, device_type, ordinal
    tensor.ndim, tensor.code, tensor.bits, tensor.lanes = len(shape), _CODES[dtype.kind], 8 * dtype.itemsize, 1
    tensor.shape = ctypes.cast(extents, ctypes.POINTER(ctypes.c_int64))
    tensor.strides = ctypes.cast(strides, ctypes.POINTER(ctypes.c_int64))
    managed.deleter = _deleter
    place = ctypes.addressof(managed)
    _alive[place] = (managed, extents, strides, owner)
    return _new(place, _NAME, ctypes.cast(_destructor, ctypes.c_void_p))
