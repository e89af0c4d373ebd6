"""Channels for hybrid precoding: independent real Gaussian fading."""

from __future__ import annotations

import torch
from torch import Tensor

from unfoldc.unfold_train.problems import Problems


def gaussian_channels(
    count: int,
    seed: int,
    bands: int = 8,
    users: int = 6,
    antennas: int = 12,
    dtype: torch.dtype = torch.float32,
) -> Problems:
    """`count` channels H (count, bands, users, antennas) with independent entries of N(0, 1); no truth, since what is
    maximised is the rate."""
    generator = torch.Generator().manual_seed(seed)
    return Problems({"H": torch.randn(count, bands, users, antennas, generator=generator, dtype=dtype)})


def partial_identity(antennas: int = 12, chains: int = 10, dtype: torch.dtype = torch.float32) -> Tensor:
    """The analogue precoder (antennas, chains) that connects each chain to one antenna."""
    return torch.eye(antennas, chains, dtype=dtype)


def noise_at(decibels: float) -> float:
    """The variance of the noise at a ratio of power per user to noise, 10^(-dB/10)."""
    return float(10 ** (-decibels / 10))
