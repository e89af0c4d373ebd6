"""How many multiply-adds a network needs for one problem, counted as it runs: in `begin`, in each iteration, in `end`.

A product of matrices (m, k)(k, n) counts m·k·n, an elementwise product, quotient or function one for each element;
additions, comparisons and copies count nothing. Factorisations count their leading term (Golub and Van Loan, "Matrix
Computations"): Cholesky n³/6, LU n³/3, a triangular solve n²/2 for each right-hand side, an inverse n³, a thin SVD of
(m, n) with m >= n 7·m·n² + 4·n³.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from unfoldc.unfold_train.call_sites import Memory, Visit
from unfoldc.unfold_train.inputs import is_batched
from unfoldc.unfold_train.unfolded import Unfolded

_aten: Any = torch.ops.aten


@dataclass(frozen=True)
class MultiplyAdds:
    """Of one problem. `once` names the call sites whose factorisation or inverse `begin` computes for all iterations,
    with its multiply-adds; of a constant matrix it is computed when the network is exported and costs nothing."""

    begin: int
    iterations: tuple[int, ...]
    end: int
    once: Mapping[str, int]

    @property
    def total(self) -> int:
        """Of a whole solve."""
        return self.begin + sum(self.iterations) + self.end


@torch.no_grad()
def count_multiply_adds(network: Unfolded, inputs: Mapping[str, Tensor]) -> MultiplyAdds:
    """Run the first of these problems on the frozen network and count: what depends on no input is free."""
    network = network if network.is_frozen else network.frozen()
    one = {n: t[:1] if is_batched(network.solver, n, t) else t for n, t in inputs.items()}
    with _Counter() as counter:
        _solve(network, one, counter)
    counts = counter.counts
    steps = tuple(counts.get(f"iteration {k}", 0) for k in range(network.iterations))
    once = {name.removeprefix("once "): n for name, n in counts.items() if name.startswith("once ")}
    return MultiplyAdds(counts.get("begin", 0) + sum(once.values()), steps, counts.get("end", 0), once)


def _solve(network: Unfolded, inputs: Mapping[str, Tensor], counter: _Counter) -> None:
    @contextmanager
    def observer(visit: Visit) -> Iterator[None]:
        alone = visit.operation == "factor" and visit.fixed
        with counter.within("never" if visit.fixed == "always" else f"once {visit.site}") if alone else _nothing():
            yield

    counter.part = "begin"
    steps = network.trajectory(inputs, memory=Memory(observer=observer, entered=counter.enter, checked=False))
    for k, (v, state) in enumerate(steps):
        if k == network.iterations - 1:
            counter.part = "end"
            network.end(v, state)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what runs while it is on, by part."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.part = "begin"
        self.counts: dict[str, int] = {}

    def enter(self, k: int) -> None:
        """An iteration begins."""
        self.part = f"iteration {k}"

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """What runs inside counts for another part."""
        before, self.part = self.part, part
        try:
            yield
        finally:
            self.part = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        rule = _RULES.get(func.overloadpacket)
        if rule is not None and self.part != "never":
            self.counts[self.part] = self.counts.get(self.part, 0) + math.ceil(rule(args, result))
        return result


Rule = Callable[[Any, Any], float]


def _product(a: int) -> Rule:
    return lambda args, result: result.numel() * args[a].shape[-1]


def _vectors(args: Any, result: Any) -> float:
    return float(args[0].numel())


def _cubes(factor: float) -> Rule:
    """factor · n³ for each matrix."""
    return lambda args, result: factor * args[0].numel() * args[0].shape[-1]


def _solve_rule(args: Any, result: Any) -> float:
    n = args[0].shape[-1]
    return float(args[0].numel() * n / 3 + result[0].numel() * n)


def _svd_rule(args: Any, result: Any) -> float:
    m, n = sorted(args[0].shape[-2:], reverse=True)
    return float(math.prod(args[0].shape[:-2])) * (7 * m * n**2 + 4 * n**3)


def _convolution(args: Any, result: Any) -> float:
    return float(result.numel() * math.prod(args[1].shape[1:]))


_ELEMENTWISE = (
    *("mul", "div", "reciprocal", "square", "sqrt", "rsqrt", "pow", "addcmul", "addcdiv", "lerp"),
    *("exp", "log", "tanh", "sigmoid", "erf", "sin", "cos"),
)
_RULES: Mapping[Any, Rule] = {
    _aten.mm: _product(0),
    _aten.bmm: _product(0),
    _aten.mv: _product(0),
    _aten.addmm: _product(1),
    _aten.baddbmm: _product(1),
    _aten.addmv: _product(1),
    _aten.dot: _vectors,
    _aten.linalg_vector_norm: _vectors,
    _aten.convolution: _convolution,
    _aten.linalg_cholesky_ex: _cubes(1 / 6),
    _aten.linalg_inv_ex: _cubes(1.0),
    _aten._linalg_solve_ex: _solve_rule,
    _aten.linalg_solve_triangular: lambda args, result: result.numel() * args[0].shape[-1] / 2,
    _aten._linalg_svd: _svd_rule,
    **{getattr(_aten, name): lambda args, result: float(result.numel()) for name in _ELEMENTWISE},
}
