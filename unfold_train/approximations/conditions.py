"""Which approximations of a linear solve or an inverse would converge on given data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unfoldc.unfold_train.approximations.base import Approximation
from unfoldc.unfold_train.approximations.chebyshev import Chebyshev
from unfoldc.unfold_train.approximations.conjugate_gradient import ConjugateGradient
from unfoldc.unfold_train.approximations.gauss_seidel import GaussSeidel
from unfoldc.unfold_train.approximations.jacobi import Jacobi
from unfoldc.unfold_train.approximations.neumann import Neumann
from unfoldc.unfold_train.approximations.newton_schulz import NewtonSchulz

# The conditions do not depend on the number of steps. Where costs are equal, the earlier one stands first.
CANDIDATES: Sequence[tuple[type[Approximation], Mapping[str, Any]]] = (
    (Jacobi, {"sweeps": 2}),
    (Jacobi, {"sweeps": 2, "damping": 0.5}),
    (ConjugateGradient, {"steps": 2}),
    (Chebyshev, {"order": 2}),
    (Neumann, {"order": 2, "start": "norm"}),
    (Neumann, {"order": 2, "start": "identity"}),
    (GaussSeidel, {"sweeps": 2}),
    (NewtonSchulz, {"steps": 2, "start": "diagonal"}),
    (NewtonSchulz, {"steps": 16}),
)


def that_hold(operation: str, arguments: tuple[Any, ...]) -> list[str]:
    """The approximations, as the text of their constructors, whose condition for convergence holds for all problems in
    the arguments of `operation`, cheapest first; empty where none holds, or none is known for the operation."""
    found = []
    for kind, options in CANDIDATES:
        if operation in kind.operations:
            candidate = kind(**options)
            condition = candidate.convergence(*arguments)
            if condition is not None and condition.holds:
                text = ", ".join(f"{name}={value!r}" for name, value in options.items())
                found.append((candidate.multiply_adds(*arguments), f"{kind.__name__}({text})"))
    return [text for _, text in sorted(found, key=lambda pair: pair[0])]
