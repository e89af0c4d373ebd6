"""DLPack's structures, against NumPy's and torch's own."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from typing import Any

import numpy as np
import pytest

from unfoldc.runtime.cuda import dlpack
from unfoldc.runtime.cuda.dlpack import make_capsule, read_capsule, row_major
from unfoldc.runtime.cuda.libraries import library_of

CPU = 1


class Owner:
    """An array on this computer that exports capsules of ours."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU, 0

    def __dlpack__(self, **_: Any) -> Any:
        array = self.array
        return make_capsule(self, array.ctypes.data, array.shape, array.dtype, 0, CPU)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1", "?", "c8"])
@pytest.mark.parametrize("shape", [(3, 4), (), (0, 5), (2, 1, 3)])
def test_capsules_there_and_back(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.random.default_rng(0).random(shape) * 100).astype(dtype)
    seen = read_capsule(array.__dlpack__())
    assert (seen.shape, seen.dtype, seen.contiguous) == (shape, array.dtype, True)
    assert (seen.device_type, seen.ordinal) == (CPU, 0)
    assert seen.address == array.ctypes.data or not array.size
    back = np.from_dlpack(Owner(array))
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype


def test_versioned_capsules_and_read_only_arrays() -> None:
    array = np.arange(6.0)
    array.flags.writeable = False
    seen = read_capsule(array.__dlpack__(max_version=(1, 0)))
    assert not seen.writable and seen.address == array.ctypes.data
    assert read_capsule(np.arange(6.0).__dlpack__(max_version=(1, 0))).writable


def test_views_that_are_not_row_by_row() -> None:
    array = np.arange(12.0).reshape(3, 4)
    for view, contiguous in ((array.T, False), (array[:, 1:], False), (array[1:], True), (array[::2], False)):
        seen = read_capsule(view.__dlpack__())
        assert seen.contiguous == contiguous == view.flags.c_contiguous
        assert seen.address == view.ctypes.data
    assert row_major((1, 4), (99, 1)) and not row_major((2, 4), (99, 1)) and row_major((0, 4), (7, 7))


def test_capsules_say_their_strides() -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    capsule = Owner(array).__dlpack__()
    strides = dlpack._Managed.from_address(dlpack._pointer(id(capsule), b"dltensor")).tensor.strides
    assert strides[:3] == [12, 4, 1]


def test_the_owner_lives_as_long_as_the_consumer() -> None:
    owner = Owner(np.arange(5.0))
    alive = weakref.ref(owner)
    taken = np.from_dlpack(owner)
    del owner
    gc.collect()
    assert alive() is not None
    np.testing.assert_array_equal(taken, np.arange(5.0))
    del taken
    gc.collect()
    assert alive() is None
    assert not dlpack._alive


def test_a_capsule_that_nobody_uses_lets_go() -> None:
    owner = Owner(np.arange(5.0))
    alive = weakref.ref(owner)
    capsule = owner.__dlpack__()
    assert read_capsule(capsule).shape == (5,)
    del owner
    assert alive() is not None
    del capsule
    gc.collect()
    assert alive() is None


AT_EXIT = """
import sys
import numpy as np
import torch
from unfoldc.runtime.cuda.dlpack import make_capsule
array = np.zeros(64, np.float32)
class Owner:
    def __dlpack_device__(self):
        return 1, 0
    def __dlpack__(self, **_):
        return make_capsule(self, array.ctypes.data, (64,), array.dtype, 0, 1)
sys.kept = torch.from_dlpack(Owner()), Owner().__dlpack__()
"""


def test_arrays_that_outlive_python_do_not_crash_it() -> None:
    pytest.importorskip("torch")
    done = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_no_capsule_is_refused() -> None:
    capsule = np.arange(3.0).__dlpack__()
    for wrong in (None, 3, "dltensor", object()):
        with pytest.raises(ValueError, match="no DLPack capsule"):
            read_capsule(wrong)
    read_capsule(capsule)


def test_torch_reads_and_writes_them() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    seen = read_capsule(tensor.__dlpack__())
    assert (seen.address, seen.shape, seen.dtype) == (tensor.data_ptr(), (2, 3), np.dtype(np.float32))
    assert read_capsule(tensor.bfloat16().__dlpack__()).dtype is None
    back = torch.from_dlpack(Owner(np.arange(4, dtype=np.float32)))
    assert back.tolist() == [0, 1, 2, 3]


def test_arrays_on_the_processor_belong_to_no_library() -> None:
    torch = pytest.importorskip("torch")
    for array in (
        np.zeros(3),
        [1.0],
        2.0,
        None,
        torch.zeros(3),
        torch.nn.Parameter(torch.zeros(3)),
        Owner(np.zeros(2)),
    ):
        assert library_of(array) is None
