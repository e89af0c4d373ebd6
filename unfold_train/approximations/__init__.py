"""Approximations of exact operations, found by name."""

from __future__ import annotations

from unfoldc.unfold_train.approximations.base import Answer, Approximation, Convergence
from unfoldc.unfold_train.approximations.blocks import ConstantAnswer, Reuse, Skip
from unfoldc.unfold_train.approximations.chebyshev import Chebyshev
from unfoldc.unfold_train.approximations.conjugate_gradient import ConjugateGradient
from unfoldc.unfold_train.approximations.diagonal import Diagonal
from unfoldc.unfold_train.approximations.exp import PolynomialExp
from unfoldc.unfold_train.approximations.gauss_seidel import GaussSeidel
from unfoldc.unfold_train.approximations.jacobi import Jacobi
from unfoldc.unfold_train.approximations.log import PolynomialLog
from unfoldc.unfold_train.approximations.neumann import Neumann
from unfoldc.unfold_train.approximations.newton_schulz import NewtonSchulz
from unfoldc.unfold_train.approximations.reciprocal import NewtonReciprocal
from unfoldc.unfold_train.approximations.sigmoid import PolynomialSigmoid
from unfoldc.unfold_train.approximations.sqrt import NewtonSqrt
from unfoldc.unfold_train.approximations.tanh import PolynomialTanh
from unfoldc.unfold_train.approximations.truncated_svd import TruncatedSvd

APPROXIMATIONS: dict[str, type[Approximation]] = {
    a.__name__: a
    for a in (
        *(Neumann, Jacobi, GaussSeidel, ConjugateGradient, Chebyshev, NewtonSchulz, Diagonal),
        *(PolynomialExp, PolynomialLog, PolynomialTanh, PolynomialSigmoid, NewtonSqrt, NewtonReciprocal),
        *(TruncatedSvd, Skip, Reuse, ConstantAnswer),
    )
}

__all__ = [
    "APPROXIMATIONS",
    "Answer",
    "Approximation",
    "Chebyshev",
    "ConjugateGradient",
    "ConstantAnswer",
    "Convergence",
    "Diagonal",
    "GaussSeidel",
    "Jacobi",
    "Neumann",
    "NewtonReciprocal",
    "NewtonSchulz",
    "NewtonSqrt",
    "PolynomialExp",
    "PolynomialLog",
    "PolynomialSigmoid",
    "PolynomialTanh",
    "Reuse",
    "Skip",
    "TruncatedSvd",
]
