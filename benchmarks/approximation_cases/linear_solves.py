"""Relative error of A⁻¹b for A = HᴴH + 0.1 K I: N antennas, K users, four approximations.

H (N, K) has independent complex Gaussian entries of variance 1, written in the real form of twice the size. b is the
matched filter's output Hᴴy for y = H s + noise, with symbols s of energy 1 and noise of variance 0.1 K, for which
A⁻¹b is the LMMSE estimate. "Neumann 4" is four products with A, five terms; Neumann, Newton-Schulz and Gauss-Seidel
start from D⁻¹b, D = diag(A), conjugate gradient from zero.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch
from torch import Tensor

from unfoldc.unfold_train.approximations.base import Approximation
from unfoldc.unfold_train.approximations.conjugate_gradient import ConjugateGradient
from unfoldc.unfold_train.approximations.gauss_seidel import GaussSeidel
from unfoldc.unfold_train.approximations.neumann import Neumann
from unfoldc.unfold_train.approximations.newton_schulz import NewtonSchulz

SEED = 101
CHANNELS = 200
DIVERGES = 1.0
# Published median errors; None is "diverges".
REFERENCE: dict[tuple[int, int], tuple[float | None, ...]] = {
    (128, 8): (2.9e-3, 1.5e-4, 6.9e-4, 1.4e-3),
    (64, 16): (0.18, 0.13, 0.029, 0.039),
    (64, 32): (None, None, 0.13, 0.14),
}
METHODS: tuple[Approximation, ...] = (
    Neumann(order=4, start="diagonal"),
    NewtonSchulz(steps=3, start="diagonal"),
    GaussSeidel(sweeps=3, start="diagonal"),
    ConjugateGradient(steps=4, start="zero"),
)
# How far two medians of 200 channels may lie apart; the largest deviation of single ones is in the rows.
TOLERANCE = 0.25


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The table as rows, each the median over repetitions of the median over 200 fresh channels, and its checks."""
    generator = torch.Generator().manual_seed(SEED)
    rows, checks = [], []
    for (antennas, users), published in REFERENCE.items():
        repetitions = [_problems(antennas, users, generator) for _ in range(3 if quick else 25)]
        for method, reference in zip(METHODS, published, strict=True):
            row = _measure(method, repetitions)
            rows.append(
                {"antennas": antennas, "users": users, "approximation": repr(method), **row, "published": reference}
            )
            checks.append(
                _check(f"error of A⁻¹b, {antennas}×{users}, {type(method).__name__}", row["error"], reference)
            )
    return rows, checks


def _problems(antennas: int, users: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A (200, 2K, 2K) and b (200, 2K, 1)."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(CHANNELS, *shape, generator=generator, dtype=torch.float64)

    real, imaginary = normal(antennas, users) / 2**0.5, normal(antennas, users) / 2**0.5
    H = torch.cat([torch.cat([real, -imaginary], -1), torch.cat([imaginary, real], -1)], -2)
    symbols = normal(2 * users, 1).sign() / 2**0.5
    noise = (0.1 * users / 2) ** 0.5 * normal(2 * antennas, 1)
    return H.mT @ H + 0.1 * users * torch.eye(2 * users, dtype=torch.float64), H.mT @ (H @ symbols + noise)


def _measure(method: Approximation, repetitions: list[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    medians = []
    for A, b in repetitions:
        x = torch.linalg.solve(A, b)
        answer = method(None, A) @ b if "solve" not in method.operations else method(None, A, b)
        medians.append(float(((answer - x).norm(dim=(-2, -1)) / x.norm(dim=(-2, -1))).median()))
    A, b = repetitions[0]
    arguments = (A, b) if "solve" in method.operations else (A,)
    condition = method.convergence(*arguments)
    middle = statistics.median(medians)
    return {
        "error": middle,
        "lowest": min(medians),
        "highest": max(medians),
        "repetitions": len(medians),
        "multiply_adds": method.multiply_adds(*arguments),
        "condition": condition.name if condition else "",
        "number": condition.number if condition else None,
        "broken": condition.broken if condition else None,
    }


def _check(name: str, error: float, published: float | None) -> dict[str, Any]:
    if published is None:
        return {"name": name, "measured": error, "goal": f"diverges: > {DIVERGES:g}", "met": error > DIVERGES}
    met = abs(error / published - 1) <= TOLERANCE
    return {"name": name, "measured": error, "goal": f"{published:g} ± {TOLERANCE:.0%}", "met": met}
