"""Newton-Schulz iteration: A⁻¹ by products of matrices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unfoldc.unfold_train.approximations.base import Approximation, Convergence, below, demand
from unfoldc.unfold_train.approximations.iteration_matrix import LEARNS, Coefficients, Learn


class NewtonSchulz(Approximation):
    """X ← X + cᵢ X (I - A X), which doubles the number of right digits with each step once ‖I - A X‖ < 1.

    Cold, X starts from Aᵀ/(‖A‖₁‖A‖∞), from which every regular A converges; warm, from the previous answer, which in
    `begin` is the result of `first_steps` cold ones. The cᵢ are 1, or learned from 1 on, one (number, n numbers, matrix)
    for each step.

    Cost: 2·n³ multiply-adds for each step. Converges where the spectral norm of I - A X₀ is below 1; with a warm start
    that holds as long as A changes little between iterations.

    Source: G. Schulz, "Iterative Berechnung der reziproken Matrix" (1933); the start is Ben-Israel and Cohen's (1966).
    """

    operations = ("inverse",)

    def __init__(self, steps: int = 1, warm_start: bool = False, first_steps: int = 16, learn: Learn = "none") -> None:
        super().__init__(steps=steps, warm_start=warm_start, first_steps=first_steps, learn=learn)
        demand("NewtonSchulz(steps=...)", "1 to 64", 1 <= steps <= 64, steps)
        demand("NewtonSchulz(first_steps=...)", "0 to 64", 0 <= first_steps <= 64, first_steps)
        demand("NewtonSchulz(learn=...)", ", ".join(LEARNS), learn in LEARNS, learn)
        self.steps = steps
        self.first_steps = first_steps
        self.uses_previous = warm_start
        self.coefficients = Coefficients(steps, learn)

    def prepare(self, A: Tensor, *_: Any) -> None:
        """Make the coefficients."""
        self.coefficients.prepare(A)

    def start(self, A: Tensor) -> Tensor:  # type: ignore[override]
        """`first_steps` cold steps."""
        X = cold_inverse(A)
        for _ in range(self.first_steps):
            X = X + X @ _residual(A, X)
        return X

    def forward(self, previous: Tensor | None, A: Tensor) -> Tensor:  # type: ignore[override]
        """The inverse of A (..., n, n)."""
        X = previous if self.uses_previous and previous is not None else cold_inverse(A)
        for i in range(self.steps):
            X = X + self.coefficients(i, X @ _residual(A, X))
        return X

    def convergence(self, A: Tensor) -> Convergence | None:  # type: ignore[override]
        """The spectral norm of I - A X after all cold steps that are done."""
        with torch.no_grad():
            X = cold_inverse(A)
            for _ in range(self.first_steps if self.uses_previous else self.steps):
                X = X + X @ _residual(A, X)
            finite = torch.isfinite(X).all(-1).all(-1)
            R = torch.where(finite[..., None, None], _residual(A, X), 0)
            norm = torch.linalg.matrix_norm(R, 2)
            return below("the spectral norm of I - A X after the cold steps", torch.where(finite, norm, torch.inf))


def cold_inverse(A: Tensor) -> Tensor:
    """Aᵀ/(‖A‖₁‖A‖∞): the spectral norm of I - A X is below 1 for every regular A."""
    size = A.abs()
    return A.mT / (
        size.sum(-2, keepdim=True).amax(-1, keepdim=True) * size.sum(-1, keepdim=True).amax(-2, keepdim=True)
    )


def _residual(A: Tensor, X: Tensor) -> Tensor:
    return torch.eye(A.shape[-1], dtype=A.dtype, device=A.device) - A @ X
