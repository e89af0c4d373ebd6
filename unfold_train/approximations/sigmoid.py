"""The logistic function by a half and an odd polynomial."""

from __future__ import annotations

import numpy as np

from unfoldc.unfold_train.approximations.chebyshev_fit import Array, LearnFactors
from unfoldc.unfold_train.approximations.polynomial import Odd, Outside


class PolynomialSigmoid(Odd):
    """1/(1 + e⁻ˣ) ≈ 1/2 + x q(x²) on [-high, high]: the odd part by the best odd polynomial of a degree.

    Keeps f(x) + f(-x) = 1; with outside="clamp" it saturates close to 0 and 1, and `error` holds for all x. Learned
    coefficients are factors of q's in the Chebyshev basis.

    Cost per number: (degree - 1)/2 + 3 multiply-adds (1 more with learned coefficients). The
    error falls by 1/(v + √(1 + v²)) with each degree for v = π/high.

    Source: J.-M. Muller, Elementary Functions (2016), chapter 3.
    """

    operations = ("sigmoid",)
    offset = 0.5
    limit = 0.5

    def __init__(
        self, degree: int = 11, high: float = 6.0, outside: Outside = "nan", learn: LearnFactors = "none"
    ) -> None:
        super().__init__(degree, high, outside, learn)

    def exact(self, x: Array) -> Array:
        """1/(1 + e⁻ˣ)."""
        value: Array = 0.5 + 0.5 * np.tanh(0.5 * x)
        return value
