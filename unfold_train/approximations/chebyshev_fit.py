"""Polynomials in the Chebyshev basis: the best one for a function on an interval, and its evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from torch import Tensor, nn

from unfoldc.errors import InputError

Array = NDArray[np.float64]
LearnFactors = Literal["none", "scalar"]
LEARN_FACTORS = ("none", "scalar")


def best_coefficients(t: Array, wanted: Array, weight: Array, count: int) -> tuple[float, ...]:
    """The c that minimise max |wanted - weight Σ cᵢ Tᵢ(t)|, i = 0 .. count - 1, over the points of a fine grid.

    Remez's exchange: the error of the best polynomial has count + 1 extrema of one size and changing signs; they are
    guessed, solved for, and found again. It starts from, and falls back to, a fit of least squares on Chebyshev's
    points, which is close to the best.

    Source: E. Remez (1934); L. N. Trefethen, Approximation Theory and Approximation Practice (2013), chapter 10.
    """
    basis = weight[:, None] * chebyshev.chebvander(t, count - 1)
    best = np.linalg.lstsq(basis, wanted, rcond=None)[0]
    worst = np.abs(wanted - basis @ best).max()
    at = np.round((1 - np.cos(np.linspace(0, np.pi, count + 1))) / 2 * (len(t) - 1)).astype(np.intp)
    signs = (-1.0) ** np.arange(count + 1)
    for _ in range(50):
        if len(at) != count + 1:
            break
        try:
            solved = np.linalg.solve(np.column_stack([basis[at], signs]), wanted[at])
        except np.linalg.LinAlgError:
            break
        error = wanted - basis @ solved[:-1]
        largest = np.abs(error).max()
        if largest < worst:
            best, worst = solved[:-1], largest
        if largest <= 1.0001 * abs(solved[-1]):
            break
        at = _alternating_extrema(error, count + 1)
    return tuple(float(c) for c in best)


def _alternating_extrema(error: Array, count: int) -> NDArray[np.intp]:
    """Where the error is largest between two changes of sign; the smaller ones at the two ends are left out."""
    cuts = np.flatnonzero(np.diff(np.sign(error)) != 0) + 1
    pieces = np.split(np.arange(len(error)), cuts)
    found = [int(piece[np.abs(error[piece]).argmax()]) for piece in pieces]
    while len(found) > count:
        found.pop(0 if abs(error[found[0]]) < abs(error[found[-1]]) else -1)
    return np.array(found, dtype=np.intp)


class ChebyshevSeries(nn.Module):
    """p(t) = Σ cᵢ Tᵢ(t) for t in [-1, 1].

    Fixed coefficients are turned into powers of t and evaluated by Horner's rule. Learned ones are cᵢ = fᵢ · startᵢ
    with factors fᵢ that start at 1 and are evaluated in the Chebyshev basis by Clenshaw's recurrence: the terms differ,
    and with them the gradients of the factors.

    Cost per number: d multiply-adds for degree d; one more where the factors are learned and d > 1.
    """

    def __init__(self, coefficients: Sequence[float], learn: LearnFactors) -> None:
        super().__init__()
        self.coefficients = tuple(coefficients)
        powers = chebyshev.cheb2poly(self.coefficients)  # without zeros at the end
        self.powers = tuple(float(c) for c in powers) + (0.0,) * (len(self.coefficients) - len(powers))
        self.learn = learn

    @property
    def degree(self) -> int:
        """d."""
        return len(self.coefficients) - 1

    @property
    def multiply_adds(self) -> int:
        """For one number."""
        return self.degree + (self.learn != "none" and self.degree > 1)

    def prepare(self, x: Tensor) -> None:
        """Make the factors for arguments of x's type."""
        if self.learn != "none":
            self.factors = nn.ParameterList(nn.Parameter(x.new_ones(())) for _ in self.coefficients)

    def forward(self, t: Tensor) -> Tensor:
        """p(t), elementwise."""
        if self.learn == "none":
            value: Tensor = torch.full_like(t, self.powers[-1])
            for c in reversed(self.powers[:-1]):
                value = value * t + c
            return value
        if not hasattr(self, "factors"):
            raise InputError(
                "an approximation with learned coefficients",
                "called before it knows its type",
                "approximations that approximate() has put in place",
                "Call prepare(x) first, or use unfoldc.approximate.",
            )
        first, *middle = self._learned()
        zero = torch.zeros_like(t)
        if not middle:
            return zero + first
        last, before = zero + middle.pop(), zero
        twice = 2 * t if middle else t
        for term in reversed(middle):
            last, before = term + twice * last - before, last
        return first + t * last - before

    def _learned(self) -> list[Tensor]:
        return [start * factor for start, factor in zip(self.coefficients, self.factors, strict=True)]
