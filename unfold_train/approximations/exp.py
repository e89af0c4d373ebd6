"""The exponential function by a polynomial."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from unfoldc.unfold_train.approximations.base import demand
from unfoldc.unfold_train.approximations.chebyshev_fit import Array, LearnFactors
from unfoldc.unfold_train.approximations.polynomial import Affine, Outside


class PolynomialExp(Affine):
    """eˣ ≈ p(x 2⁻ˢ)^(2ˢ) on [low, high]: the best polynomial p of a degree on the reduced range, squared s times.

    Each squaring halves the range that p must cover. Learned coefficients are factors of p's in the Chebyshev basis.

    Cost per number: degree + 1 + s multiply-adds (1 more with learned coefficients). `error` states the largest
    absolute error.

    Source: minimax polynomials, J.-M. Muller, Elementary Functions (2016), chapters 3 and 4; the squarings are those
    of C. Moler and C. Van Loan, "Nineteen dubious ways to compute the exponential of a matrix", SIAM Review (2003).
    """

    operations = ("exp",)

    def __init__(
        self,
        degree: int = 5,
        low: float = -2.0,
        high: float = 2.0,
        squarings: int = 0,
        outside: Outside = "nan",
        learn: LearnFactors = "none",
    ) -> None:
        super().__init__(degree, low, high, outside, learn, squarings=squarings)
        demand("PolynomialExp(squarings=...)", "0 to 10", type(squarings) is int and 0 <= squarings <= 10, squarings)
        demand("PolynomialExp(low=..., high=...)", "-80 to 80", low >= -80 and high <= 80, (low, high))
        self.squarings = squarings
        self.fit_range(lambda x: np.exp(x * 2.0**-squarings))

    def exact(self, x: Array) -> Array:
        """eˣ."""
        value: Array = np.exp(x)
        return value

    def evaluate(self, x: Tensor) -> Tensor:
        """p(x 2⁻ˢ), squared s times."""
        value = super().evaluate(x)
        for _ in range(self.squarings):
            value = value * value
        return value

    @property
    def multiply_adds_each(self) -> int:
        """That of p, and the squarings."""
        return super().multiply_adds_each + self.squarings
