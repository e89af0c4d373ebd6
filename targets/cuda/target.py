"""NVIDIA GPUs as one target: a build holds code for several of them."""

from __future__ import annotations

from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.targets.description import Target

CUDA = Target(
    spec=TargetSpec(name="cuda", word_bits=64, vector_bits=0, accumulators=32),
    kind="gpu",
    summary="an NVIDIA GPU of compute capability 8.0 or later in this computer; see docs/gpu.md",
    source="NVIDIA, CUDA C++ Programming Guide: limits of compute capability 8.0",
    packages=("unfoldc[cuda]",),
    flags=(),
)
