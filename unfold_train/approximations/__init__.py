"""Approximations of exact operations, found by name."""

from __future__ import annotations

from unfoldc.unfold_train.approximations.base import Answer, Approximation, Convergence
from unfoldc.unfold_train.approximations.neumann import Neumann
from unfoldc.unfold_train.approximations.newton_schulz import NewtonSchulz

APPROXIMATIONS: dict[str, type[Approximation]] = {a.__name__: a for a in (Neumann, NewtonSchulz)}

__all__ = ["APPROXIMATIONS", "Answer", "Approximation", "Convergence", "Neumann", "NewtonSchulz"]
