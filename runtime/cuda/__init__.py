"""How solvers run on NVIDIA GPUs: the driver, code and memory on a device, arrays of other libraries."""

from __future__ import annotations
