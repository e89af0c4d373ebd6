"""ISTA for sparse recovery, in two forms that are the same classical method.

Daubechies, Defrise, De Mol (2004); unfolded as LISTA by Gregor and LeCun (2010) and as LISTA-CP by Chen et al. (2018).
"""

from __future__ import annotations

from torch import Tensor

from unfoldc.unfold_train.operations import apply, identity_like, scale_rows
from unfoldc.unfold_train.proximal import soft_threshold
from unfoldc.unfold_train.solvers.sparse import SparseRecovery
from unfoldc.unfold_train.values import Derived, View


class Ista(SparseRecovery):
    """The factored form: x ← soft(x - mu·Bᵀ(A x - y), theta). Cheap where m is much less than n."""

    def init(self, v: View) -> Tensor:
        """x = 0."""
        return self.origin(v)

    def step(self, v: View, state: Tensor) -> Tensor:
        """One gradient step on the data term and one soft threshold."""
        return self.proximal_gradient(v, state)

    def output(self, v: View, state: Tensor) -> Tensor:
        """x."""
        return state

    def objective(self, v: View, state: Tensor) -> Tensor:
        """1/2‖y - A x‖² + rho‖x‖₁ per problem."""
        return self.objective_at(v, state)


class Lista(Ista):
    """The full form: x ← soft(W2 x + W1 y, theta), with W1 = mu·Bᵀ (n, m) and W2 = I - W1 A (n, n) classically."""

    W1 = Derived(lambda v: scale_rows(v.mu, v.B.mT), "n", "m")
    W2 = Derived(lambda v: identity_like(v.A) - v.W1 @ v.A, "n", "n")

    def init(self, v: View) -> Tensor:
        """x = 0."""
        return v.y.new_zeros(v.y.shape[0], v.W1.shape[-2])

    def step(self, v: View, state: Tensor) -> Tensor:
        """One product with each matrix and one soft threshold."""
        return soft_threshold(apply(v.W2, state) + apply(v.W1, v.y), v.theta)
