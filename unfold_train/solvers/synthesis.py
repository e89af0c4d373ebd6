"""ISTA for signals that are sparse in a dictionary: min over s of 1/2‖y - H Psi s‖² + rho‖s‖₁, estimate Psi s."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unfoldc.unfold_train.operations import apply
from unfoldc.unfold_train.solver import Solver
from unfoldc.unfold_train.solvers.fista import Fista
from unfoldc.unfold_train.solvers.ista import Ista, Lista
from unfoldc.unfold_train.values import Derived, Objective, Value, View


class Synthesis(Solver):
    """Mixed into a solver for the code s: A = H Psi, and the estimate is D s with D = Psi[rows], shape (batch, p).

    y (batch, m); H (m, q) maps a signal to what is measured; Psi (q, n) is the dictionary. `rows` says which part of
    the signal is wanted, all of it unless given.
    """

    H = Objective("m", "q")
    Psi = Objective("q", "n")
    A: Value = Derived(lambda v: v.H @ v.Psi, "m", "n")
    rows = Derived(lambda v: torch.arange(v.Psi.shape[-2]), "p", integer=True)
    D = Derived(lambda v: v.Psi[..., v.rows, :], "p", "n")

    def output(self, v: View, state: Any) -> Tensor:
        """The estimate (batch, p)."""
        return apply(v.D, super().output(v, state))


class SynthesisIsta(Synthesis, Ista):
    """Ista with A = H Psi."""


class SynthesisLista(Synthesis, Lista):
    """Lista with A = H Psi."""


class SynthesisFista(Synthesis, Fista):
    """Fista with A = H Psi."""
