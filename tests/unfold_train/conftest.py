from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor


@dataclass(frozen=True)
class SparseProblem:
    """A small seeded synthesis problem in float64: y (batch, m), H (m, q), Psi (q, n)."""

    H: Tensor
    Psi: Tensor
    rows: Tensor
    y: Tensor
    truth: Tensor
    rho: float = 0.05

    @property
    def A(self) -> Tensor:
        return self.H @ self.Psi

    def ista(self, iterations: int, A: Tensor | None = None, rho: float | None = None) -> list[np.ndarray]:
        """All iterates of textbook ISTA, written down once more in NumPy."""
        a = np.asarray(self.A if A is None else A)
        y = np.asarray(self.y)
        step = 1 / np.linalg.svd(a)[1][0] ** 2
        x = np.zeros((len(y), a.shape[1]))
        found = []
        for _ in range(iterations):
            z = x + step * (y - x @ a.T) @ a
            x = np.sign(z) * np.maximum(np.abs(z) - step * (self.rho if rho is None else rho), 0)
            found.append(x)
        return found


@pytest.fixture
def sparse() -> SparseProblem:
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    H, Psi = normal(6, 9) / 3, normal(9, 14) / 3
    codes = normal(40, 14) * (torch.rand(40, 14, generator=generator) < 0.2)
    rows = torch.tensor([1, 2, 5, 7])
    signals = codes @ Psi.T
    return SparseProblem(H, Psi, rows, signals @ H.T, signals[:, rows])
