"""Detection of symbols y = H x + noise with many antennas: the linear estimate, and ADMM with the symbols in a box.

Real form: a complex system of m antennas and n users is one of 2m and 2n real numbers (see data/mimo.py). Only the Gram
matrix G = HᵀH and the matched filter f = Hᵀy enter the iterations; both are computed once, in `begin`, or given.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unfoldc.unfold_train.operations import apply, apply_adjoint
from unfoldc.unfold_train.solver import Solver
from unfoldc.unfold_train.values import Derived, Hyper, Input, Objective, Value, View


def add_to_diagonal(A: Tensor, d: Tensor) -> Tensor:
    """A + diag(d) for A (..., n, n) and d a scalar, (n,) or (batch, 1).

    Written as a choice, not as a sum with d·I: a compiled solver keeps one mask, not a matrix for each learned d.
    """
    i = torch.arange(A.shape[-1], device=A.device)
    diagonal = i[:, None] == i
    return torch.where(diagonal, A + d.unsqueeze(-1), A)


class GramBoxAdmm(Solver):
    """min over x of 1/2 xᵀG x - fᵀx with |x_i| ≤ box, for f (batch, n) and G (batch, n, n), both inputs of each call.

    x ← M⁻¹(f + rho (z - u)), M = G + rho I;  z ← min(max(x + u, -box), box);  u ← u + x - z;  z is the estimate.

    With over-relaxation, x + (relaxation - 1)(x - z) takes the place of x in the last two. `box` is the largest
    coordinate of a symbol. rho is 0.2 unless given, which suits a G with a diagonal near 1; where it is one number for
    all iterations, so is M, and it is factored once. The call site of the solve is "solve".

    Source: Boyd et al., "Distributed optimization and statistical learning via ADMM" (2011), section 3.4.3; as a
    detector Shahabuddin et al., "ADMM-based infinity norm detection for large MU-MIMO" (2017).
    """

    f: Value = Input("n")
    G: Value = Input("n", "n")
    box = Objective(positive=True)
    rho = Hyper(lambda v: v.number(0.2), positive=True)
    relaxation = Hyper(lambda v: v.number(1.0), positive=True)
    M = Derived(lambda v: add_to_diagonal(v.G, v.rho), "n", "n")

    def init(self, v: View) -> tuple[Tensor, Tensor]:
        """z = u = 0."""
        return torch.zeros_like(v.f), torch.zeros_like(v.f)

    def step(self, v: View, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """One solve with M, one projection onto the box, one update of the scaled dual variable u."""
        z, u = state
        x = v.solve(v.M, v.f + v.rho * (z - u), site="solve", definite=True)
        moved = u + v.relaxation * x + (1 - v.relaxation) * z
        z = torch.minimum(torch.maximum(moved, -v.box), v.box)
        return z, moved - z

    def output(self, v: View, state: tuple[Tensor, Tensor]) -> Tensor:
        """z, which lies in the box."""
        return state[0]

    def objective(self, v: View, state: tuple[Tensor, Tensor]) -> Tensor:
        """1/2 xᵀG x - fᵀx at x = z, per problem: (batch,)."""
        z = state[0]
        value: Tensor = ((0.5 * apply(v.G, z) - v.f) * z).sum(-1)
        return value


class BoxAdmm(GramBoxAdmm):
    """min over x of 1/2‖y - H x‖² with |x_i| ≤ box: GramBoxAdmm with G = HᵀH and f = Hᵀy, computed in `begin`.

    y is (batch, m), H (m, n), or with BoxAdmm(H=Input(), box=...) one for each problem, (batch, m, n).
    """

    y = Input("m")
    H = Objective("m", "n")
    f = Derived(lambda v: apply_adjoint(v.H, v.y), "n")
    G = Derived(lambda v: v.H.mT @ v.H, "n", "n")


class Lmmse(Solver):
    """The linear estimate with the least mean squared error, x = (HᵀH + noise I)⁻¹Hᵀy, in a single iteration.

    y is (batch, m), H (m, n) or, as an input, (batch, m, n); noise is the variance of the noise in units of that of a
    symbol. More iterations compute the same again. The call site of the solve is "solve".

    Source: S. Kay, "Fundamentals of statistical signal processing: estimation theory" (1993), section 12.5.
    """

    y = Input("m")
    H = Objective("m", "n")
    noise = Objective(positive=True)
    f = Derived(lambda v: apply_adjoint(v.H, v.y), "n")
    M = Derived(lambda v: add_to_diagonal(v.H.mT @ v.H, v.noise), "n", "n")

    def init(self, v: View) -> Tensor:
        """x = 0."""
        return torch.zeros_like(v.f)

    def step(self, v: View, state: Tensor) -> Tensor:
        """The solve."""
        return v.solve(v.M, v.f, site="solve", definite=True)

    def output(self, v: View, state: Tensor) -> Tensor:
        """x."""
        return state

    def objective(self, v: View, state: Tensor) -> Tensor:
        """1/2‖y - H x‖² + noise/2 ‖x‖² per problem: (batch,)."""
        value: Tensor = 0.5 * (apply(v.H, state) - v.y).square().sum(-1)
        return value + 0.5 * (v.noise * state.square()).sum(-1)
