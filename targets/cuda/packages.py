"""What is installed for NVIDIA GPUs: the compiler's packages, the driver, the GPUs that it finds."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

INSTALL = 'python -m pip install "unfoldc[cuda]"'
NO_DRIVER = "no NVIDIA driver is installed"
_NOT_FOUND = "DynamicLibNotFoundError"
LOWEST = 80
"""The oldest architecture that code is made for: compute capability 8.0."""
_SIMULATOR = "NUMBA_ENABLE_CUDASIM"


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver describes it; `architecture` 90 is compute capability 9.0."""

    name: str
    architecture: int
    memory_bytes: int

    @property
    def usable(self) -> bool:
        """Whether code can be made for it."""
        return self.architecture >= LOWEST


def in_simulator() -> bool:
    """Whether numba's simulator of CUDA is asked for, which runs kernels in Python, for checking only."""
    return os.environ.get(_SIMULATOR, "0") not in ("", "0")


def gpus(api: Any = None) -> tuple[tuple[Gpu, ...], str]:
    """The GPUs, and why there are none. `api`: `cuda.bindings.driver`, or what behaves alike."""
    if api is None:
        if not _has("cuda.bindings"):
            return (), "the package cuda-bindings is not installed"
        api = import_module("cuda.bindings.driver")
    try:
        _ask(api.cuInit, 0)
        return tuple(_gpu(api, i) for i in range(_ask(api.cuDeviceGetCount))), ""
    except _NotThere as error:
        return (), str(error)
    except Exception as error:  # the library's own class for a driver that is not installed lies deep within it
        return (), NO_DRIVER if type(error).__name__ == _NOT_FOUND else f"{NO_DRIVER} ({error})"


def code_for() -> str:
    """What a build depends on beside its sources: the GPUs at hand, or that there is the simulator instead."""
    return "simulator" if in_simulator() else ",".join(f"sm_{gpu.architecture}" for gpu in gpus()[0])


class _NotThere(Exception):
    """The driver answers, with an error."""


def _gpu(api: Any, ordinal: int) -> Gpu:
    device = _ask(api.cuDeviceGet, ordinal)
    attribute = api.CUdevice_attribute
    capability = [
        int(_ask(api.cuDeviceGetAttribute, name, device))
        for name in (
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    ]
    name = bytes(_ask(api.cuDeviceGetName, 256, device)).split(b"\0")[0].decode(errors="replace")
    return Gpu(name, 10 * capability[0] + capability[1], int(_ask(api.cuDeviceTotalMem, device)))


def _ask(function: Callable[..., Any], *arguments: Any) -> Any:
    """The value of a driver call."""
    error, *values = function(*arguments)
    if int(error):
        raise _NotThere(f"the NVIDIA driver answers {error.name}")
    return values[0] if values else None


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False
