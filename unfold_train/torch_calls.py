"""Calls of torch functions, read as the operations that can be approximated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_ELEMENTWISE: Mapping[Any, str] = {
    function: name
    for name in ("exp", "log", "tanh", "sigmoid", "sqrt", "reciprocal")
    for function in (getattr(torch, name), getattr(Tensor, name))
}
_INVERSE = (torch.linalg.inv, torch.inverse, Tensor.inverse)
_CHOLESKY = (torch.linalg.cholesky, torch.cholesky, Tensor.cholesky)
_QUOTIENT = (torch.div, torch.true_divide, Tensor.div, Tensor.true_divide, Tensor.__truediv__)
_TRANSPOSED = tuple(getattr(Tensor, name).__get__ for name in ("mT", "T", "mH", "H"))


_triplets: Any = getattr(torch.return_types, "linalg_svd")  # noqa: B009


@dataclass(frozen=True)
class TorchCall:
    """A call as an operation: its arguments in the form that approximations take, what to make of their answer, and
    the answer that an exact result stands for."""

    operation: str
    arguments: tuple[Any, ...]
    result_of: Callable[[Any], Any] = lambda answer: answer
    answer_of: Callable[[Any], Any] = lambda result: result


class Factors:
    """Which tensors are Cholesky factors (or their transposes, or half-solved right-hand sides) of which matrices.

    The tensors are kept while the module runs, so that no other can take their place in memory.
    """

    def __init__(self) -> None:
        self.known: dict[int, tuple[Tensor, Tensor]] = {}
        self.halves: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def note(self, function: Any, args: Any, kwargs: Mapping[str, Any], result: Any) -> None:
        """Remember what a call that was not replaced has made of a factor."""
        if function in _CHOLESKY:
            self.known[id(result)] = (result, args[0])
        elif function is torch.linalg.cholesky_ex:
            self.known[id(result[0])] = (result[0], args[0])
        elif function in _TRANSPOSED or function in (torch.transpose, Tensor.transpose):
            if args and id(args[0]) in self.known:
                self.known[id(result)] = (result, self.known[id(args[0])][1])
        elif function is torch.linalg.solve_triangular and id(args[0]) in self.known:
            self.halves[id(result)] = (result, self.known[id(args[0])][1], args[1])

    def matrix(self, factor: Any) -> Tensor | None:
        """The matrix whose Cholesky factor this is."""
        return self.known[id(factor)][1] if id(factor) in self.known else None


def read_call(function: Any, args: Any, kwargs: Mapping[str, Any], factors: Factors) -> TorchCall | None:
    """The operation that a call stands for; None where it is none, or in a form that is left alone."""
    if function in _ELEMENTWISE and len(args) == 1 and not kwargs:
        return TorchCall(_ELEMENTWISE[function], args)
    if function in _QUOTIENT and len(args) == 2 and not kwargs and isinstance(args[1], Tensor):
        return _quotient(args[0], args[1]) if args[1].is_floating_point() else None
    if function is Tensor.__rtruediv__:
        return _quotient(args[1], args[0])
    if function in _INVERSE and len(args) == 1 and not kwargs:
        return TorchCall("inverse", args)
    if function is torch.linalg.solve and len(args) == 2 and not set(kwargs) - {"left"}:
        return _solve(args[0], args[1], kwargs.get("left", True))
    if function is torch.linalg.svd and kwargs.get("full_matrices", True) is False and len(args) == 1:
        return _svd(args[0])
    return _by_factor(function, args, kwargs, factors)


def _by_factor(function: Any, args: Any, kwargs: Mapping[str, Any], factors: Factors) -> TorchCall | None:
    if function in (torch.cholesky_inverse, Tensor.cholesky_inverse):
        A = factors.matrix(args[0])
        return None if A is None else TorchCall("inverse", (A,))
    if function in (torch.cholesky_solve, Tensor.cholesky_solve):
        A = factors.matrix(args[1] if len(args) > 1 else kwargs.get("L", kwargs.get("input2")))
        return None if A is None else TorchCall("solve", (A, args[0]))
    if function is torch.linalg.solve_triangular and len(args) == 2 and id(args[1]) in factors.halves:
        _, A, b = factors.halves[id(args[1])]
        return TorchCall("solve", (A, b)) if factors.matrix(args[0]) is A and kwargs.get("left", True) else None
    return None


def _quotient(a: Any, x: Tensor) -> TorchCall:
    # What the exact quotient says of 1/x is lost; a warm start after an exact call begins anew.
    return TorchCall("reciprocal", (x,), lambda answer: a * answer, lambda result: torch.reciprocal(x))


def _solve(A: Tensor, b: Tensor, left: bool) -> TorchCall:
    if not left:
        return TorchCall("solve", (A.mT, b.mT), lambda x: x.mT, lambda x: x.mT)
    if b.dim() == 1 or (b.dim() == A.dim() - 1 and b.shape == A.shape[:-1]):  # torch's own rule
        return TorchCall("solve", (A, b.unsqueeze(-1)), lambda x: x.squeeze(-1), lambda x: x.unsqueeze(-1))
    return TorchCall("solve", (A, b))


def _svd(X: Tensor) -> TorchCall:
    return TorchCall(
        "svd",
        (X, min(X.shape[-2:])),
        lambda answer: _triplets((answer[0], answer[1], answer[2].mT)),
        lambda result: (result[0], result[1], result[2].mT),
    )
