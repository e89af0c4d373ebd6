"""Sparse recovery: the problem that ISTA and its relatives solve."""

from __future__ import annotations

from torch import Tensor

from unfoldc.unfold_train.operations import apply, apply_adjoint, spectral_norm
from unfoldc.unfold_train.proximal import soft_threshold
from unfoldc.unfold_train.solver import Solver
from unfoldc.unfold_train.values import Derived, Hyper, Input, Objective, Value, View


class SparseRecovery(Solver):
    """min over x of 1/2‖y - A x‖² + rho‖x‖₁ with y (batch, m), A (m, n), x (batch, n).

    Classically mu = 1/‖A‖₂², B = A and theta = mu·rho. rho and theta may also be one number per entry of x.
    """

    y = Input("m")
    A: Value = Objective("m", "n")
    rho = Objective(positive=True)
    mu = Hyper(lambda v: 1 / spectral_norm(v.A) ** 2, positive=True)
    B = Derived(lambda v: v.A, "m", "n")
    theta = Derived(lambda v: v.mu * v.rho, positive=True)

    def origin(self, v: View) -> Tensor:
        """x = 0, (batch, n)."""
        return v.y.new_zeros(v.y.shape[0], v.A.shape[-1])

    def proximal_gradient(self, v: View, x: Tensor) -> Tensor:
        """soft(x - mu·Bᵀ(A x - y), theta): two products with m·n weights each."""
        return soft_threshold(x - v.mu * apply_adjoint(v.B, apply(v.A, x) - v.y), v.theta)

    def objective_at(self, v: View, x: Tensor) -> Tensor:
        """1/2‖y - A x‖² + rho‖x‖₁ per problem, (batch,)."""
        data: Tensor = 0.5 * (apply(v.A, x) - v.y).square().sum(-1)
        return data + (v.rho * x.abs()).sum(-1)
