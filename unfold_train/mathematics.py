"""The operations that solver code calls on its view and that `approximate` can replace: v.solve(A, b), v.exp(x)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from unfoldc.unfold_train.call_sites import CallSites


class Mathematics:
    """Exact unless `approximate` says otherwise. `site` names the call, so that it can be replaced alone; without it a
    call is named by its operation, and the second one in a step "inverse_2"."""

    _sites: CallSites

    def solve(self, A: Tensor, b: Tensor, site: str = "", definite: bool = False) -> Tensor:
        """A⁻¹b for A (n, n) or (batch, n, n) and b (batch, n) or (batch, n, m); by a Cholesky factorisation where the
        solver knows that A is symmetric and positive `definite`. Raises InputError where A cannot be inverted."""
        return self._sites.solve(A, b, site, definite)

    def inverse(self, A: Tensor, site: str = "") -> Tensor:
        """A⁻¹ for A (n, n) or (batch, n, n). Raises InputError where A is singular."""
        return self._sites.inverse(A, site)

    def svd(self, X: Tensor, rank: int, site: str = "") -> tuple[Tensor, Tensor, Tensor]:
        """The leading `rank` singular triplets of X (batch, m, n): U (batch, m, r), s (batch, r), V (batch, n, r)."""
        return self._sites.svd(X, rank, site)

    def block(self, site: str, compute: Callable[..., Tensor], *arguments: Any) -> Tensor:
        """compute(*arguments): a part of the step that may be skipped, reused or replaced as a whole, such as a
        gradient, or the update of one variable, whose present value is then the first argument."""
        return self._sites.block(site, compute, *arguments)

    def exp(self, x: Tensor, site: str = "") -> Tensor:
        """eˣ, elementwise."""
        return self._sites.elementwise("exp", x, site)

    def log(self, x: Tensor, site: str = "") -> Tensor:
        """The natural logarithm, elementwise."""
        return self._sites.elementwise("log", x, site)

    def tanh(self, x: Tensor, site: str = "") -> Tensor:
        """The hyperbolic tangent, elementwise."""
        return self._sites.elementwise("tanh", x, site)

    def sigmoid(self, x: Tensor, site: str = "") -> Tensor:
        """1/(1 + e⁻ˣ), elementwise."""
        return self._sites.elementwise("sigmoid", x, site)

    def sqrt(self, x: Tensor, site: str = "") -> Tensor:
        """The square root, elementwise."""
        return self._sites.elementwise("sqrt", x, site)

    def reciprocal(self, x: Tensor, site: str = "") -> Tensor:
        """1/x, elementwise; a quotient a/x is a * v.reciprocal(x)."""
        return self._sites.elementwise("reciprocal", x, site)
