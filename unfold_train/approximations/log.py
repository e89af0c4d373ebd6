"""The natural logarithm by a polynomial."""

from __future__ import annotations

import numpy as np

from unfoldc.unfold_train.approximations.base import demand
from unfoldc.unfold_train.approximations.chebyshev_fit import Array, LearnFactors
from unfoldc.unfold_train.approximations.polynomial import Affine, Outside


class PolynomialLog(Affine):
    """log x ≈ p(x) on [low, high], low > 0: the polynomial of a degree with the smallest largest error.

    Learned coefficients are factors of p's in the Chebyshev basis.

    Cost per number: degree + 1 multiply-adds (1 more with learned coefficients). `error` states the largest
    absolute error; it falls by the factor (√h - 1)/(√h + 1) with each degree for h = high/low.

    Source: J.-M. Muller, Elementary Functions (2016), chapter 3.
    """

    operations = ("log",)

    def __init__(
        self,
        degree: int = 6,
        low: float = 0.5,
        high: float = 2.0,
        outside: Outside = "nan",
        learn: LearnFactors = "none",
    ) -> None:
        super().__init__(degree, low, high, outside, learn)
        demand("PolynomialLog(low=...)", "a number above zero", low > 0, low)
        self.fit_range(self.exact)

    def exact(self, x: Array) -> Array:
        """log x."""
        value: Array = np.log(x)
        return value
