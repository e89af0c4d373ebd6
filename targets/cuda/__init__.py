"""NVIDIA GPUs as a target: kernels printed for numba-cuda to machine code, and what is installed for that."""

from __future__ import annotations
