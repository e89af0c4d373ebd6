"""Uplinks with many antennas: random channels, 16-QAM symbols and noise, in real form.

A complex system y = H x + w is [Re y; Im y] = [[Re H, -Im H], [Im H, Re H]] [Re x; Im x] + [Re w; Im w].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unfoldc.errors import InputError

LEVELS = tuple(level / math.sqrt(10) for level in (-3, -1, 1, 3))
BOX = LEVELS[-1]
"""The largest coordinate of a 16-QAM symbol of mean energy 1."""


@dataclass(frozen=True)
class Uplink:
    """`users` users with 16-QAM symbols of mean energy 1 each, at `antennas` antennas.

    Channel coefficients are independent, circular complex Gaussian with variance 1/antennas, new for each problem, so
    that the diagonal of HᵀH is near 1. `snr` in dB is E‖H x‖² / E‖w‖², the ratio of signal to noise at each antenna:
    the complex noise has the variance users/antennas · 10^(-snr/10).
    """

    antennas: int
    users: int
    snr: float

    def __post_init__(self) -> None:
        if not 1 <= self.users <= self.antennas or not math.isfinite(self.snr):
            raise InputError(
                "Uplink(...)",
                f"antennas={self.antennas}, users={self.users}, snr={self.snr}",
                "at least one user, not more users than antennas, a finite snr in dB",
                "Correct the numbers.",
            )

    @property
    def noise(self) -> float:
        """The variance of the noise, which is also its ratio to the energy of a symbol."""
        return self.users / self.antennas * 10 ** (-self.snr / 10)

    def draw(self, count: int, seed: int, dtype: torch.dtype = torch.float32) -> Reception:
        """`count` problems with a channel each, from a seed; the numbers are drawn in float64."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64) / math.sqrt(2)

        real, imaginary = normal(2, count, self.antennas, self.users) / math.sqrt(self.antennas)
        H = torch.cat([torch.cat([real, -imaginary], -1), torch.cat([imaginary, real], -1)], -2)
        levels = torch.tensor(LEVELS, dtype=torch.float64)
        truth = levels[torch.randint(4, (count, 2 * self.users), generator=generator)]
        y = (H @ truth.unsqueeze(-1)).squeeze(-1) + math.sqrt(self.noise) * normal(count, 2 * self.antennas)
        return Reception(y.to(dtype), H.to(dtype), truth.to(dtype))


@dataclass(frozen=True)
class Reception:
    """What was received, y (N, 2 antennas), by channels H (N, 2 antennas, 2 users); and sent, truth (N, 2 users)."""

    y: Tensor
    H: Tensor
    truth: Tensor

    @property
    def matched_filter(self) -> Tensor:
        """f = Hᵀy, (N, 2 users)."""
        return (self.H.mT @ self.y.unsqueeze(-1)).squeeze(-1)

    @property
    def gram(self) -> Tensor:
        """G = HᵀH, (N, 2 users, 2 users)."""
        return self.H.mT @ self.H


def symbol_error_rate(estimate: Tensor, truth: Tensor) -> float:
    """The share of 16-QAM symbols decided wrongly, estimate and truth being (N, 2 users)."""
    if estimate.shape != truth.shape or truth.shape[-1] % 2:
        raise InputError(
            "symbol_error_rate",
            f"shapes {tuple(estimate.shape)} and {tuple(truth.shape)}",
            "equal shapes with an even last axis",
            "Compare estimates and symbols in real form.",
        )
    levels = torch.tensor(LEVELS, dtype=truth.dtype, device=truth.device)
    nearest = [(t.unsqueeze(-1) - levels).abs().argmin(-1) for t in (estimate, truth)]
    real, imaginary = (nearest[0] != nearest[1]).chunk(2, -1)
    return float((real | imaginary).double().mean())
