"""How many multiply-adds a network needs for one problem, counted as it runs: in `begin`, in each iteration, in `end`.

A product of matrices (m, k)(k, n) counts m·k·n, an elementwise product, quotient or function one for each element;
additions, comparisons and copies count nothing. Factorisations count their leading term (Golub and Van Loan, "Matrix
Computations"): Cholesky n³/6, LU n³/3, a triangular solve n²/2 for each right-hand side, an inverse n³, a thin SVD of
(m, n) with m >= n 7·m·n² + 4·n³.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from unfoldc.errors import InputError
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
    """Run the first of these problems on the frozen network and count what its states and its answer need.

    What depends on no input is free, and so is what `begin` computes only to drop it.
    """
    if not isinstance(network, Unfolded):
        found, allowed = f"found {type(network).__name__}", "an Unfolded network"
        raise InputError("count_multiply_adds", found, allowed, "Count other modules with torch.utils.flop_counter.")
    network = network if network.is_frozen else network.frozen()
    one = {n: t[:1] if is_batched(network.solver, n, t) else t for n, t in inputs.items()}
    with _Recorder() as recorder:
        wanted = _solve(network, one, recorder)
    counts = recorder.needed(wanted)
    steps = tuple(counts.get(f"iteration {k}", 0) for k in range(network.iterations))
    once = {name.removeprefix("once "): n for name, n in counts.items() if name.startswith("once ")}
    return MultiplyAdds(counts.get("begin", 0) + sum(once.values()), steps, counts.get("end", 0), once)


def _solve(network: Unfolded, inputs: Mapping[str, Tensor], recorder: _Recorder) -> set[int]:
    """Runs the network; the states after each iteration and the answer."""

    @contextmanager
    def observer(visit: Visit) -> Iterator[None]:
        alone = visit.operation == "factor" and visit.fixed
        with recorder.within("never" if visit.fixed == "always" else f"once {visit.site}") if alone else nullcontext():
            yield

    wanted: set[int] = set()
    steps = network.trajectory(inputs, memory=Memory(observer=observer, entered=recorder.enter, checked=False))
    for k, (v, state) in enumerate(steps):
        wanted |= recorder.numbers(state)
        if k == network.iterations - 1:
            recorder.part = "end"
            wanted |= recorder.numbers(network.end(v, state))
    return wanted


@dataclass(frozen=True)
class _Operation:
    """One that ran: in which part, its multiply-adds, and the tensors that it read and made, by number."""

    part: str
    count: int
    reads: set[int]
    makes: set[int]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what runs while it is on, by part."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.part = "begin"
        self.operations: list[_Operation] = []
        # Tensors come and go: their addresses are used again, their numbers are not.
        self.known: Any = WeakIdKeyDictionary()
        self.count = itertools.count()

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

    def numbers(self, values: Any) -> set[int]:
        """The numbers of all tensors in a structure."""
        tensors = [t for t in tree_leaves(values) if isinstance(t, Tensor)]
        return {self.known.setdefault(t, next(self.count)) for t in tensors}

    def sharing(self, written: Any) -> set[int]:
        """The numbers of all tensors that hold the memory of one that is written in place."""
        if not isinstance(written, Tensor):
            return set()
        at = written.untyped_storage().data_ptr()
        return {number for t, number in self.known.items() if t.untyped_storage().data_ptr() == at}

    def needed(self, wanted: set[int]) -> dict[str, int]:
        """Multiply-adds by part, of the operations that these tensors depend on."""
        counts: dict[str, int] = {}
        for operation in reversed(self.operations):
            if operation.makes & wanted:
                wanted = wanted | operation.reads
                counts[operation.part] = counts.get(operation.part, 0) + operation.count
        return {part: n for part, n in counts.items() if part != "never"}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        rule = _RULES.get(packet, _RULES.get(getattr(_aten, packet.__name__.removesuffix("_"), None)))
        count = 0 if rule is None else math.ceil(rule(args, result))
        reads = self.numbers((args, kwargs))
        makes = self.numbers(result) | (self.sharing(args[0]) if func._schema.is_mutable else set())
        self.operations.append(_Operation(self.part, count, reads, makes))
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
    m, n = sorted(map(int, args[0].shape[-2:]), reverse=True)
    return float(math.prod(args[0].shape[:-2]) * (7 * m * n**2 + 4 * n**3))


def _convolution(args: Any, result: Any) -> float:
    return float(result.numel() * math.prod(args[1].shape[1:]))


_ELEMENTWISE = (
    *("mul", "div", "reciprocal", "square", "sqrt", "rsqrt", "pow", "addcmul", "addcdiv", "lerp"),
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sigmoid", "erf", "erfc", "gelu", "silu"),
    *("softplus", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh"),
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
    _aten.cholesky_solve: lambda args, result: result.numel() * args[1].shape[-1],
    _aten._linalg_svd: _svd_rule,
    **{getattr(_aten, name): lambda args, result: float(result.numel()) for name in _ELEMENTWISE},
}
