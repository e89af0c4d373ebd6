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
_TRANSPOSED = (
    *(getattr(Tensor, name).__get__ for name in ("mT", "T", "mH", "H")),
    *(torch.transpose, Tensor.transpose, torch.t, Tensor.t),
)


_triplets: Any = getattr(torch.return_types, "linalg_svd")  # noqa: B009


@dataclass(frozen=True)
class TorchCall:
    """A call as an operation: its arguments in the form that approximations take, what to make of their answer, and
    the answer that an exact result stands for."""

    operation: str
    arguments: tuple[Any, ...]
    result_of: Callable[[Any], Any] = lambda answer: answer
    answer_of: Callable[[Any], Any] = lambda result: result


@dataclass(frozen=True)
class _Seen:
    """A tensor that was made of others, and the versions of all: an in-place write makes it worthless."""

    tensors: tuple[Tensor, ...]
    versions: tuple[int, ...]
    lower: bool = True

    @property
    def unchanged(self) -> bool:
        return self.versions == _versions(self.tensors)


class Factors:
    """Which tensors are Cholesky factors (or their transposes, or half-solved right-hand sides) of which matrices.

    The tensors are kept while the module runs, so that no other can take their place in memory. What is written to in
    place, or made of a factor in any other way, is no factor.
    """

    def __init__(self) -> None:
        self.known: dict[int, _Seen] = {}
        self.halves: dict[int, _Seen] = {}

    def note(self, function: Any, args: Any, kwargs: Mapping[str, Any], result: Any) -> None:
        """Remember what a call that was not replaced has made of a factor."""
        self._forget_written(function, args, kwargs)
        if function in _CHOLESKY or function is torch.linalg.cholesky_ex:
            given: dict[str, Any] = {**dict(zip(("input", "upper"), args, strict=False)), **kwargs}
            A, L = given.get("input", given.get("A")), result if isinstance(result, Tensor) else result[0]
            if A is not None and not A.is_complex() and "out" not in kwargs:
                self.known[id(L)] = _seen((L, A), not given.get("upper", False))
        elif function in _TRANSPOSED and (found := self._factor(args[0] if args else None)) is not None:
            if _swaps_last(function, args, kwargs):
                self.known[id(result)] = _seen((result, found.tensors[1]), not found.lower)
        elif function is torch.linalg.solve_triangular:
            L, B = _substitution(args, kwargs)
            found = self._factor(L)
            if found is not None and found.lower and _plainly(kwargs, upper=False):
                self.halves[id(result)] = _seen((result, found.tensors[1], B))

    def matrix(self, factor: Any, upper: bool) -> Tensor | None:
        """The matrix whose Cholesky factor this is, an upper one or a lower one."""
        found = self._factor(factor)
        return None if found is None or found.lower is upper else found.tensors[1]

    def half(self, half: Any) -> tuple[Tensor, Tensor] | None:
        """The matrix A = L Lᵀ and the b of which this is L⁻¹b."""
        found = self.halves.get(id(half))
        return (found.tensors[1], found.tensors[2]) if found is not None and found.unchanged else None

    def _factor(self, tensor: Any) -> _Seen | None:
        found = self.known.get(id(tensor))
        return found if found is not None and found.unchanged else None

    def _forget_written(self, function: Any, args: Any, kwargs: Mapping[str, Any]) -> None:
        # Tensors of the inference mode have no versions: what shares memory with what is written is forgotten.
        name = getattr(function, "__name__", "")
        in_place = name == "__setitem__" or name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))
        written = [*(args[:1] if in_place else ()), kwargs.get("out")]
        for target in (t for t in written if isinstance(t, Tensor) and t.is_inference()):
            at = target.untyped_storage().data_ptr()
            for seen in (self.known, self.halves):
                for key, found in list(seen.items()):
                    if any(t.untyped_storage().data_ptr() == at for t in found.tensors):
                        del seen[key]


def _seen(tensors: tuple[Tensor, ...], lower: bool = True) -> _Seen:
    return _Seen(tensors, _versions(tensors), lower)


def _versions(tensors: tuple[Tensor, ...]) -> tuple[int, ...]:
    return tuple(0 if t.is_inference() else t._version for t in tensors)


def _swaps_last(function: Any, args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a transposition swaps the last two axes."""
    axes = args[0].dim()
    if function in (torch.transpose, Tensor.transpose):
        given = {**dict(zip(("dim0", "dim1"), args[1:], strict=False)), **kwargs}
        swapped = {given.get(name) for name in ("dim0", "dim1")}
        return all(isinstance(d, int) for d in swapped) and {d % axes for d in swapped} == {axes - 2, axes - 1}
    return axes == 2 or function in (Tensor.mT.__get__, Tensor.mH.__get__)  # type: ignore[attr-defined]


def _substitution(args: Any, kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    given = {**dict(zip(("input", "B"), args, strict=False)), **kwargs}
    return given.get("input", given.get("A")), given.get("B")


def _plainly(kwargs: Mapping[str, Any], upper: bool) -> bool:
    """Whether a substitution is from the left, with a triangle of this side."""
    usual = kwargs.get("left", True) and not kwargs.get("unitriangular", False) and "out" not in kwargs
    return bool(usual and kwargs.get("upper") is upper)


def read_call(function: Any, args: Any, kwargs: Mapping[str, Any], factors: Factors) -> TorchCall | None:
    """The operation that a call stands for; None where it is none, or in a form that is left alone."""
    if function in _ELEMENTWISE and (x := _given(args, kwargs, "input")):
        return TorchCall(_ELEMENTWISE[function], (x["input"],))
    if function in _QUOTIENT and (q := _given(args, kwargs, "input", "other")):
        x = q["other"]
        return _quotient(q["input"], x) if isinstance(x, Tensor) and x.is_floating_point() else None
    if function is Tensor.__rtruediv__:
        return _quotient(args[1], args[0])
    if function in _INVERSE and (a := _given(args, kwargs, "input") or _given(args, kwargs, "A")):
        return TorchCall("inverse", tuple(a.values()))
    if function is torch.linalg.solve and (s := _given(args, kwargs, "A", "B", left=True)):
        return _solve(s["A"], s["B"], s["left"])
    if function is torch.linalg.svd and (d := _given(args, kwargs, "A", full_matrices=True)):
        return None if d["full_matrices"] else _svd(d["A"])
    return _by_factor(function, args, kwargs, factors)


def _given(args: Any, kwargs: Mapping[str, Any], *names: str, **defaults: Any) -> dict[str, Any] | None:
    """The arguments by name; None where one is missing or there are others."""
    order = (*names, *defaults)
    found = {**defaults, **dict(zip(order, args, strict=False)), **kwargs}
    return found if len(args) <= len(order) and set(found) == set(order) else None


def _by_factor(function: Any, args: Any, kwargs: Mapping[str, Any], factors: Factors) -> TorchCall | None:
    if function in (torch.cholesky_inverse, Tensor.cholesky_inverse):
        i = _given(args, kwargs, "input", upper=False)
        A = None if i is None else factors.matrix(i["input"], bool(i["upper"]))
        return None if A is None else TorchCall("inverse", (A,))
    if function in (torch.cholesky_solve, Tensor.cholesky_solve):
        s = _given(args, kwargs, "input", "input2", upper=False) or _given(args, kwargs, "B", "L", upper=False)
        if s is None:
            return None
        A = factors.matrix(s.get("input2", s.get("L")), bool(s["upper"]))
        return None if A is None else TorchCall("solve", (A, s.get("input", s.get("B"))))
    if function is torch.linalg.solve_triangular:
        factor, half = _substitution(args, kwargs)
        known = factors.half(half)
        if known is not None and _plainly(kwargs, upper=True) and factors.matrix(factor, upper=True) is known[0]:
            return TorchCall("solve", known)
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
