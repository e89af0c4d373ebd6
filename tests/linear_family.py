"""The approximations of a linear solve or an inverse, and systems to try them on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unfoldc.unfold_train.approximations.base import Approximation
from unfoldc.unfold_train.approximations.chebyshev import Chebyshev
from unfoldc.unfold_train.approximations.conjugate_gradient import ConjugateGradient
from unfoldc.unfold_train.approximations.gauss_seidel import GaussSeidel
from unfoldc.unfold_train.approximations.jacobi import Jacobi
from unfoldc.unfold_train.approximations.neumann import Neumann
from unfoldc.unfold_train.approximations.newton_schulz import NewtonSchulz

N = 9


@dataclass(frozen=True)
class Case:
    """A member of the family: its class, the name of its number of steps, and other options."""

    kind: type[Approximation]
    steps: str
    options: dict[str, Any]

    def make(self, steps: int, **options: Any) -> Approximation:
        return self.kind(**{self.steps: steps, **self.options, **options})

    def __str__(self) -> str:
        return "-".join([self.kind.__name__, *(f"{k}={v}" for k, v in self.options.items())])


FAMILY = [
    Case(Neumann, "order", {"start": "diagonal"}),
    Case(Neumann, "order", {"start": "norm"}),
    Case(Neumann, "order", {"start": "identity"}),
    Case(Jacobi, "sweeps", {}),
    Case(Jacobi, "sweeps", {"damping": 0.7}),
    Case(GaussSeidel, "sweeps", {}),
    Case(GaussSeidel, "sweeps", {"start": "zero"}),
    Case(GaussSeidel, "sweeps", {"relaxation": 1.1, "start": "norm"}),
    Case(ConjugateGradient, "steps", {}),
    Case(ConjugateGradient, "steps", {"start": "diagonal"}),
    Case(Chebyshev, "order", {}),
    Case(Chebyshev, "order", {"lower": 0.5, "upper": 1.5}),
    Case(NewtonSchulz, "steps", {}),
    Case(NewtonSchulz, "steps", {"start": "diagonal"}),
]
SOLVES = [case for case in FAMILY if "solve" in case.kind.operations]
LINEAR = [case for case in SOLVES if case.kind is not ConjugateGradient]
every = pytest.mark.parametrize("case", FAMILY, ids=str)
every_solve = pytest.mark.parametrize("case", SOLVES, ids=str)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dominant(seed: int, *batch: int, n: int = N, dominance: float = 4.0) -> Tensor:
    """Symmetric, positive definite, diagonally dominant, eigenvalues around 1."""
    S = normal(seed, *batch, n, n)
    S = S + S.mT
    S = S - torch.diag_embed(S.diagonal(dim1=-2, dim2=-1))
    spread = 1 + 0.1 * torch.tanh(normal(seed + 1, *batch, n))
    return torch.diag_embed(spread) + S / (dominance * S.abs().sum(-1).amax(-1)[..., None, None])


def arguments(case: Case, A: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    return (A, b) if "solve" in case.kind.operations else (A,)


def exact(*given: Tensor) -> Tensor:
    A = given[0].double().numpy()
    b = given[1].double().numpy() if len(given) == 2 else np.broadcast_to(np.eye(A.shape[-1]), A.shape)
    return torch.from_numpy(np.linalg.solve(A, b))


def error(found: Any, truth: Tensor) -> float:
    return float((found.detach().double() - truth).norm() / truth.norm())
