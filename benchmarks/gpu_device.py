"""The GPU that is measured: its name, what it can compute at most, and how fast it copies."""

from __future__ import annotations

import subprocess
from typing import Any

import torch

_LANES = {80: 64, 86: 128, 87: 128, 89: 128, 90: 128, 100: 128, 120: 128}  # of float32 in a multiprocessor
_COPIED = 2**30


def describe_gpu() -> dict[str, Any]:
    """Figures of the first GPU: operations per second from clock and lanes, bytes per second measured by a copy.

    Raises RuntimeError with a sentence where PyTorch finds none; figures that cannot be had are left out.
    """
    if not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise RuntimeError(f"PyTorch {torch.__version__}, {build}, finds no GPU; --dry-run does what takes none")
    facts = torch.cuda.get_device_properties(0)
    architecture = 10 * facts.major + facts.minor
    found = {
        "name": facts.name,
        "architecture": architecture,
        "multiprocessors": facts.multi_processor_count,
        "memory_bytes": facts.total_memory,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
    }
    try:
        found["driver"], found["clock_hz"] = _driver()
        lanes = _LANES.get(architecture, 128)
        found["bytes_per_second"] = _bandwidth()
        found["flops_per_second"] = 2.0 * lanes * facts.multi_processor_count * found["clock_hz"]
    except Exception as problem:  # a roofline less
        found["problem"] = f"{type(problem).__name__}: {problem}"[:300]
    return found


def _driver() -> tuple[str, float]:
    """The version of the driver, and the GPU's highest clock in Hz."""
    asked = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm", "--format=csv,noheader,nounits", "--id=0"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.split(",")
        return said[0].strip(), 1e6 * float(said[1])
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        from cuda.bindings import driver

        attribute = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_CLOCK_RATE
        return "", 1e3 * float(driver.cuDeviceGetAttribute(attribute, 0)[1])


def _bandwidth() -> float:
    source = torch.randn(_COPIED // 4, device="cuda")
    target = torch.empty_like(source)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    best = 0.0
    for _ in range(5):
        start.record()
        target.copy_(source)
        end.record()
        torch.cuda.synchronize()
        best = max(best, 2 * _COPIED / (1e-3 * start.elapsed_time(end)))
    del source, target
    torch.cuda.empty_cache()
    return best
