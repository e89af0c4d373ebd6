"""Hybrid precoding for many users over several bands by projected gradient ascent on the sum rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unfoldc.unfold_train.solver import Solver
from unfoldc.unfold_train.values import Hyper, Input, Objective, View

State = tuple[Tensor, Tensor]


class HybridBeamforming(Solver):
    """max over Wa, Wd of R = 1/B Σ_b log det(I + F_b F_bᵀ/noise), F_b = H_b Wa Wd_b, with Σ_b ‖Wa Wd_b‖² = N B.

    H (batch, B, N, M) are real channels from M antennas to N users in B bands; the analogue precoder Wa (batch, M, L)
    with L chains serves all bands, the digital ones Wd (batch, B, L, N) one each. R is in nats, all users together.

    An iteration: Wa ← Wa + mu_a ∇R(Wa), then Wd ← Wd + mu_d ∇R(Wd) at the new Wa, then Wd is scaled to the power N B.
    With S_b = (I + F_b F_bᵀ/noise)⁻¹ F_b/(noise B), ∇R(Wa) = Σ_b H_bᵀ S_b Wd_bᵀ and ∇R(Wd)_b = (H_b Wa)ᵀ S_b (half of
    the real gradients, as for complex numbers). The sites: the blocks gradient_Wa and gradient_Wd, an inverse in each,
    and sqrt and reciprocal of the mean power. It starts from the given Wa = `start` and the matched filter
    Wd_b = (H_b Wa)ᵀ. mu_a and mu_d are numbers, or arrays like Wa and Wd of one problem: elementwise step sizes.

    Source: O. Lavi and N. Shlezinger, "Learn to rapidly and robustly optimize hybrid precoding", IEEE Transactions on
    Communications (2023).
    """

    H = Input("bands", "users", "antennas")
    start = Objective("antennas", "chains")
    noise = Objective(positive=True)
    mu_a = Hyper(lambda v: v.number(0.5))
    mu_d = Hyper(lambda v: v.number(0.5))

    def init(self, v: View) -> State:
        """The given analogue precoder and the matched filter behind it."""
        return self._matched(v, v.start.expand(v.H.shape[0], *v.start.shape[-2:]))

    def step(self, v: View, state: State) -> State:
        """Wa, then Wd, then the power."""
        Wa, Wd = state

        def gradient_a(Wa: Tensor, Wd: Tensor) -> Tensor:
            return (v.H.mT @ self._residual(v, v.H @ Wa.unsqueeze(1), Wd) @ Wd.mT).sum(1)

        def gradient_d(Wd: Tensor, Wa: Tensor) -> Tensor:
            effective = v.H @ Wa.unsqueeze(1)
            return effective.mT @ self._residual(v, effective, Wd)

        Wa = Wa + v.mu_a * v.block("gradient_Wa", gradient_a, Wa, Wd)
        Wd = Wd + v.mu_d * v.block("gradient_Wd", gradient_d, Wd, Wa)
        return Wa, self._project(v, Wa, Wd)

    def output(self, v: View, state: State) -> Tensor:
        """The precoders Wa Wd_b of all bands, (batch, B, M, N)."""
        Wa, Wd = state
        return Wa.unsqueeze(1) @ Wd

    def objective(self, v: View, state: Any) -> Tensor:
        """-R per problem, (batch,)."""
        return -rate(v.H, self.output(v, state), v.noise)

    def _matched(self, v: View, Wa: Tensor) -> State:
        return Wa, self._project(v, Wa, (v.H @ Wa.unsqueeze(1)).mT)

    def _residual(self, v: View, effective: Tensor, Wd: Tensor) -> Tensor:
        """S_b, (batch, B, N, N)."""
        F = effective @ Wd
        identity = torch.eye(F.shape[-1], dtype=F.dtype, device=F.device)
        return v.inverse(identity + F @ F.mT / v.noise) @ F / (v.noise * F.shape[1])

    def _project(self, v: View, Wa: Tensor, Wd: Tensor) -> Tensor:
        """Wd scaled so that the power is N for each band in the mean."""
        power = (Wa.unsqueeze(1) @ Wd).square().sum((-3, -2, -1), keepdim=True) / (Wd.shape[1] * Wd.shape[-1])
        return Wd * v.reciprocal(v.sqrt(power))


class SpectralBeamforming(HybridBeamforming):
    """HybridBeamforming from the analogue precoder that suits the channels of all bands: the L leading eigenvectors of
    Σ_b H_bᵀ H_b, by the site `svd`. L is the number of columns of `start`, whose values do not matter."""

    def init(self, v: View) -> State:
        """The eigenvectors and the matched filter behind them."""
        Wa, _, _ = v.svd((v.H.mT @ v.H).sum(1), v.start.shape[-1])
        return self._matched(v, Wa)


def rate(H: Tensor, F: Tensor, noise: Tensor | float) -> Tensor:
    """R in nats, (batch,), of precoders F (batch, B, M, N)."""
    G = H @ F
    identity = torch.eye(G.shape[-2], dtype=G.dtype, device=G.device)
    mean: Tensor = torch.logdet(identity + G @ G.mT / noise).mean(-1)
    return mean
