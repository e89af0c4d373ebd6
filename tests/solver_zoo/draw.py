"""Random weights and problems, from a generator, in sizes that keep the solvers stable."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Independent standard normal numbers."""
    return torch.randn(*shape, generator=generator)


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    """Independent numbers between `low` and `high`."""
    return low + (high - low) * torch.rand(*shape, generator=generator)


def dictionary(generator: torch.Generator, m: int, n: int) -> Tensor:
    """An m x n matrix with columns of length one."""
    A = normal(generator, m, n)
    lengths: Tensor = torch.linalg.vector_norm(A, dim=0)
    return A / lengths


def dictionaries(generator: torch.Generator, count: int, m: int, n: int) -> Tensor:
    """`count` matrices `(count, m, n)` with columns of length one."""
    return torch.stack([dictionary(generator, m, n) for _ in range(count)])


def lipschitz(A: Tensor) -> float:
    """The largest eigenvalue of A^T A."""
    return float(torch.linalg.matrix_norm(A, 2)) ** 2


def per_iteration(generator: torch.Generator, value: float, iterations: int, *shape: int) -> nn.Parameter:
    """A parameter `(K, *shape)` whose numbers lie within 20 % of `value`."""
    return nn.Parameter(value * uniform(generator, 0.8, 1.2, iterations, *shape))


def near(generator: torch.Generator, matrix: Tensor, share: float = 0.02) -> nn.Parameter:
    """A parameter that differs from `matrix` by noise of `share` times its mean magnitude, as if it were trained."""
    return nn.Parameter(matrix + share * matrix.abs().mean() * normal(generator, *matrix.shape))


def distribution(generator: torch.Generator, *shape: int) -> Tensor:
    """Positive numbers that add up to one along the last axis."""
    return torch.softmax(normal(generator, *shape), dim=-1)


def single(number: float) -> float:
    """The number as float32 holds it: torch's exporter writes Python numbers so, in float64 models as well."""
    return torch.tensor(number, dtype=torch.float32).item()
