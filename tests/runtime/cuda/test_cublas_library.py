"""cuBLAS by ctypes: the same calls as by the bindings, given to a model of the library."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_cublas import FakeCublas

from unfoldc.errors import DeviceError, ToolError
from unfoldc.runtime.cuda import cublas
from unfoldc.runtime.cuda.cublas import Cublas
from unfoldc.runtime.cuda.cublas_library import CublasLibrary


def library(fake: FakeCublas, statuses: dict[str, int] | None = None) -> Any:
    """What ctypes loads: C functions that hand over to the fake."""
    own = {
        "cublasDestroy_v2": fake.destroy,
        "cublasSetMathMode": fake.set_math_mode,
        "cublasSetStream_v2": fake.set_stream,
        "cublasSetWorkspace_v2": fake.set_workspace,
        "cublasSgemm_v2": fake.sgemm,
        "cublasDgemm_v2": fake.dgemm,
    }

    def create(place: int) -> None:
        ctypes.c_uint64.from_address(place).value = fake.create()

    def taking(name: str, function: Any) -> Any:
        def call(*arguments: Any) -> int:
            converted = [kind(a).value or 0 for kind, a in zip(call.argtypes, arguments, strict=True)]  # type: ignore[attr-defined]
            function(*converted)
            return (statuses or {}).get(name, 0)

        return call

    return SimpleNamespace(**{n: taking(n, f) for n, f in {**own, "cublasCreate_v2": create}.items()})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_product(dtype: str) -> None:
    fake = FakeCublas()
    blas = Cublas(False, CublasLibrary(library(fake)))
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((5, 3)).astype(dtype), rng.standard_normal((4, 3)).astype(dtype)
    out = np.full((5, 4), np.nan, dtype)
    function, before, beta = blas.product(dtype, (5, 4, 3), False, -1, False)
    with blas.within(0, 1 << 20, 4 << 20):
        function(*before, w.ctypes.data, 3, x.ctypes.data, 3, beta, out.ctypes.data, 4)
    np.testing.assert_allclose(out, -x @ w.T, rtol=1e-5)
    blas.close()
    assert not fake.handles and fake.mode == 0


def test_a_failure_is_one_sentence() -> None:
    blas = Cublas(True, CublasLibrary(library(FakeCublas(), {"cublasSetStream_v2": 14})))
    with pytest.raises(DeviceError, match="status 14 of cublasSetStream_v2"), blas.within(0, 1 << 20, 1 << 20):
        pass


def test_the_library_stands_in_for_missing_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvmath.bindings", None)
    found = CublasLibrary(library(FakeCublas()))
    monkeypatch.setattr(cublas, "find_cublas", lambda: found)
    assert Cublas(False).api is found
    monkeypatch.setattr(cublas, "find_cublas", lambda: None)
    with pytest.raises(ToolError, match="nvmath-python cannot be imported.*nor cuBLAS found"):
        Cublas(False)
