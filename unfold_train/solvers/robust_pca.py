"""Robust PCA by scaled gradient descent: a low-rank matrix out of its sum with sparse outliers.

Cai, Liu and Yin, "Learned Robust PCA: A Scalable Deep Unfolding Approach for High-Dimensional Outlier Detection"
(2021); the scaled gradient is Tong, Ma and Chi's, "Accelerating Ill-Conditioned Low-Rank Matrix Estimation via
Scaled Gradient Descent" (2021).
"""

from __future__ import annotations

import torch
from torch import Tensor

from unfoldc.errors import InputError
from unfoldc.unfold_train.solver import Given, Solver
from unfoldc.unfold_train.values import Hyper, Input, Objective, Value, View

State = tuple[Tensor, Tensor]


class LowRankPlusSparse(Solver):
    """X = L Rᵀ + S for X (batch, n1, n2) with S sparse, L (batch, n1, r) and R (batch, n2, r), without a start.

    S ← soft(X - L Rᵀ, zeta), E = X - L Rᵀ - S, and from the same old factors

        L ← L + eta·E R (RᵀR)⁻¹,   R ← R + eta·Eᵀ L (LᵀL)⁻¹.

    The iterates L Rᵀ do not depend on the choice of the factors: L T, R T⁻ᵀ give the same ones. Call sites: the updates
    are the blocks "L" and "R", with the inverses "L_R_inverse" and "R_L_inverse" inside.

    Classically eta = 0.5 and zeta = zeta_init·decay^(k+1) in iteration k; zeta, in units of the entries of X, should
    stay just above the largest error of an entry of L Rᵀ. Learned in LRPCA: zeta and eta of each iteration.
    """

    X = Input("n1", "n2")
    zeta_init = Objective(positive=True)
    decay = Hyper(lambda v: v.number(0.7), positive=True)
    zeta = Hyper(lambda v: v.zeta_init * v.decay ** (v.k + 1), positive=True)
    eta = Hyper(lambda v: v.number(0.5), positive=True)

    def step(self, v: View, state: State) -> State:
        """One threshold of the residual and one scaled gradient step on each factor."""
        L, R = state
        eta = _of_matrices(v.eta)
        E = _clip(_residual(v, L, R), _of_matrices(v.zeta))

        def update_L(L: Tensor, R: Tensor, E: Tensor) -> Tensor:  # noqa: N802
            return L + eta * (E @ R) @ v.inverse(R.mT @ R, site="R_inverse")

        def update_R(R: Tensor, L: Tensor, E: Tensor) -> Tensor:  # noqa: N802
            return R + eta * (E.mT @ L) @ v.inverse(L.mT @ L, site="L_inverse")

        return v.block("L", update_L, L, R, E), v.block("R", update_R, R, L, E)

    def output(self, v: View, state: State) -> Tensor:
        """The low-rank part L Rᵀ, (batch, n1, n2)."""
        L, R = state
        return L @ R.mT

    def objective(self, v: View, state: State) -> Tensor:
        """The sum of |X - L Rᵀ| over all entries, per problem: (batch,)."""
        total: Tensor = _residual(v, *state).abs().sum((-2, -1))
        return total


class RobustPca(LowRankPlusSparse):
    """Robust PCA from the spectral start: U diag(s) Vᵀ, the best approximation of X - soft(X, zeta_init) of the given
    rank, gives L = U diag(√s) and R = V diag(√s). The call site of the SVD is "init_svd".

        unfold(RobustPca(rank=5, zeta_init=0.01), iterations=16, learn=["zeta", "eta"], example={"X": X})

    This start makes RᵀR and LᵀL nearly diagonal, and they stay so: it is no test of an approximated inverse.
    """

    rank = Value(integer=True)

    def __init__(self, *, rank: int | Tensor, **given: Given) -> None:
        self._rank = int(rank)
        if self._rank < 1:
            raise InputError("RobustPca(rank=...)", f"{self._rank}", "1 or more", "Correct the rank.")
        super().__init__(rank=torch.tensor(self._rank), **given)

    def init(self, v: View) -> State:
        """The spectral start."""
        shape = tuple(v.X.shape)
        if self._rank > min(shape[-2:]):
            raise InputError(
                "RobustPca called with X", f"shape {shape}", f"{self._rank} rows and columns", "Lower rank."
            )
        U, s, V = v.svd(_clip(v.X, _of_matrices(v.zeta_init)), self._rank, site="svd")
        root = s.sqrt().unsqueeze(-2)
        return U * root, V * root


class RobustPcaFromFactors(LowRankPlusSparse):
    """Robust PCA from factors L0 (batch, n1, r) and R0 (batch, n2, r), inputs of each call: a warm start."""

    L0 = Input("n1", "r")
    R0 = Input("n2", "r")

    def init(self, v: View) -> State:
        """The given factors."""
        return v.L0, v.R0


def _residual(v: View, L: Tensor, R: Tensor) -> Tensor:
    """X - L Rᵀ."""
    return v.X - L @ R.mT


def _clip(residual: Tensor, zeta: Tensor) -> Tensor:
    """residual - soft(residual, zeta), exactly: what is left of the residual when S takes what lies above zeta."""
    return torch.minimum(torch.maximum(residual, -zeta), zeta)


def _of_matrices(scale: Tensor) -> Tensor:
    """A number for all problems, or one for each as (batch, 1), so that it multiplies (batch, n1, n2)."""
    return scale.unsqueeze(-1) if scale.dim() == 2 else scale
