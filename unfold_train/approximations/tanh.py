"""The hyperbolic tangent by an odd polynomial."""

from __future__ import annotations

import numpy as np

from unfoldc.unfold_train.approximations.chebyshev_fit import Array, LearnFactors
from unfoldc.unfold_train.approximations.polynomial import Odd, Outside


class PolynomialTanh(Odd):
    """tanh x ≈ x q(x²) on [-high, high]: the odd polynomial of a degree with the smallest largest error.

    Exactly odd; with outside="clamp" it saturates at ±high x q(high²), close to ±1, and `error` holds for all x.
    Learned coefficients are factors of q's in the Chebyshev basis.

    Cost per number: (degree - 1)/2 + 3 multiply-adds (1 more with learned coefficients). The
    error falls by 1/(v + √(1 + v²)) with each degree for v = π/(2 high).

    Source: J.-M. Muller, Elementary Functions (2016), chapter 3.
    """

    operations = ("tanh",)

    def __init__(
        self, degree: int = 11, high: float = 3.0, outside: Outside = "nan", learn: LearnFactors = "none"
    ) -> None:
        super().__init__(degree, high, outside, learn)

    def exact(self, x: Array) -> Array:
        """tanh x."""
        value: Array = np.tanh(x)
        return value
