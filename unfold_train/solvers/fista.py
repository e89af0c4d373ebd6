"""FISTA: ISTA with Nesterov's momentum (Beck and Teboulle, 2009); the reference for what ISTA converges to."""

from __future__ import annotations

import math

from torch import Tensor

from unfoldc.unfold_train.solvers.sparse import SparseRecovery
from unfoldc.unfold_train.values import Hyper, View


def momentum(k: int) -> float:
    """(t_k - 1) / t_{k+1} with t_0 = 1 and t_{k+1} = (1 + sqrt(1 + 4 t_k²)) / 2."""
    t = 1.0
    for _ in range(k):
        t = (1 + math.sqrt(1 + 4 * t * t)) / 2
    return 2 * (t - 1) / (1 + math.sqrt(1 + 4 * t * t))


class Fista(SparseRecovery):
    """x ← soft(w - mu·Bᵀ(A w - y), theta), then w ← x + beta_k (x - x before); the state is (x, w)."""

    beta = Hyper(lambda v: v.number(momentum(v.k)))

    def init(self, v: View) -> tuple[Tensor, Tensor]:
        """x = w = 0."""
        x = self.origin(v)
        return x, x

    def step(self, v: View, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """One proximal gradient step from w, then the extrapolation."""
        before, w = state
        x = self.proximal_gradient(v, w)
        return x, x + v.beta * (x - before)

    def output(self, v: View, state: tuple[Tensor, Tensor]) -> Tensor:
        """x."""
        return state[0]

    def objective(self, v: View, state: tuple[Tensor, Tensor]) -> Tensor:
        """1/2‖y - A x‖² + rho‖x‖₁ per problem."""
        return self.objective_at(v, state[0])
