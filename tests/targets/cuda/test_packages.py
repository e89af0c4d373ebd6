"""What is found of GPUs, their driver and the compiler's packages."""

from __future__ import annotations

from typing import Any

import pytest
from cuda_fakes import fake

from unfoldc.targets.cuda import packages
from unfoldc.targets.cuda.packages import Gpu, code_for, gpus, in_simulator


def test_gpus_are_described() -> None:
    found, reason = gpus(fake(gpus=2, architecture=86))
    assert found == (Gpu("Fake GPU", 86, 1 << 30),) * 2 and reason == ""
    assert found[0].usable and not Gpu("old", 75, 0).usable


def test_why_there_are_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def cuInit(self, flags: int) -> Any:
            return (fake().CUresult.CUDA_ERROR_NO_DEVICE,)

    class Missing:
        def cuInit(self, flags: int) -> Any:
            raise RuntimeError("no library")

    assert gpus(Broken()) == ((), "the NVIDIA driver answers CUDA_ERROR_NO_DEVICE")
    assert gpus(Missing()) == ((), "no NVIDIA driver is installed (no library)")
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    assert gpus() == ((), "the package cuda-bindings is not installed")


def test_a_build_depends_on_the_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "0")
    assert not in_simulator() and "simulator" not in code_for()
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    assert in_simulator() and code_for() == "simulator"
