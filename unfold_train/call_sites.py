"""Where a solver calls an operation that may be approximated, and what runs there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from unfoldc.errors import InputError
from unfoldc.export.evaluation import may_refuse
from unfoldc.unfold_train import exact
from unfoldc.unfold_train.approximations.base import Answer, Approximation

Fixed = Literal["", "call", "always"]


@dataclass(frozen=True)
class Visit:
    """One call at a site, with `arguments` as an approximation gets them.

    `fixed` says that the matrix is the same in all iterations of a "call", or "always", so that what depends on it
    alone is computed once; the operation "factor" is that part of an exact answer. `begin` marks the sites of `init`,
    `starting` the run in `begin` from which warm starts take their first answer.
    """

    site: str
    operation: str
    iteration: int
    arguments: tuple[Any, ...] = field(repr=False)
    approximation: Approximation | None
    fixed: Fixed
    begin: bool
    starting: bool


Observer = Callable[[Visit], AbstractContextManager[None]]


def recording(visits: list[Visit]) -> Observer:
    """An observer that adds each call to a list."""

    @contextmanager
    def observer(visit: Visit) -> Iterator[None]:
        visits.append(visit)
        yield

    return observer


@dataclass
class Memory:
    """What one call of a network keeps from iteration to iteration besides the state.

    `shared` holds values that no iteration changes, `answers` the last answer at each site for warm starts, `factors`
    what was computed of a matrix that is the same in all iterations. An `observer` gives a context manager that each
    operation runs in, `entered` is called when an iteration begins, and `checked` answers are looked at for NaN.
    """

    shared: dict[str, Tensor] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    factors: dict[tuple[str, str], tuple[Tensor, Any]] = field(default_factory=dict)
    observer: Observer | None = None
    entered: Callable[[int], None] | None = None
    checked: bool = True
    versions: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def keep(self, site: str, answer: Answer) -> None:
        """Keep the answer at a site for a warm start."""
        self.answers[site] = answer
        self.versions[site] = _versions(answer)

    def last(self, site: str) -> Answer | None:
        """The last answer at a site; raises InputError where it was written to."""
        found = self.answers.get(site)
        if found is not None and self.versions[site] != _versions(found):
            raise InputError(
                f"site {site}",
                "its last answer, from which a warm start begins, was changed in place",
                "steps that write no tensor in place",
                "Write x = x + u for x.add_(u) in the solver.",
            )
        return found


@dataclass
class CallSites:
    """The call sites of one step (or of `init`, with the prefix "init_").

    A site without a name is named by its operation, "inverse", "inverse_2", ...; inside a block or the formula of a
    value `b` "b_inverse", so that the names of others do not depend on whether the value is a constant. With
    `starting`, a warm-started site gives the first answer that iteration 0 will start from.
    """

    approximations: Mapping[str, Approximation]
    memory: Memory
    constants: Callable[[Tensor], bool]
    prefix: str = ""
    starting: bool = False
    iteration: int = 0
    counted: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.first_prefix = self.prefix

    @contextmanager
    def inside(self, value: str) -> Iterator[None]:
        """The sites that the formula of a value calls get its name as a prefix, wherever it is read first."""
        before, self.prefix = self.prefix, f"{self.first_prefix}{value}_"
        try:
            yield
        finally:
            self.prefix = before

    def name(self, operation: str, given: str) -> str:
        """The name of the site that is called now."""
        plain = self.prefix + (given or operation)
        if given:
            return plain
        self.counted[plain] += 1
        return plain if self.counted[plain] == 1 else f"{plain}_{self.counted[plain]}"

    def solve(self, A: Tensor, b: Tensor, site: str, definite: bool) -> Tensor:
        """A⁻¹b for b (batch, n) or (batch, n, m)."""
        _demand_square("solve", A)
        if b.dim() not in (2, 3) or b.shape[1] != A.shape[-1]:
            found = f"A {tuple(A.shape)} and b {tuple(b.shape)}"
            raise InputError("solve(A, b)", found, "b of shape (batch, n) or (batch, n, m)", "Reshape b.")
        vectors = b.dim() == 2
        right = b.unsqueeze(-1) if vectors else b
        name = self.name("solve", site)
        answer = self.run(name, "solve", lambda A, b: self._exact_solve(name, A, b, definite), A, right)
        assert isinstance(answer, Tensor)
        return answer.squeeze(-1) if vectors else answer

    def inverse(self, A: Tensor, site: str) -> Tensor:
        """A⁻¹."""
        _demand_square("inverse", A)
        name = self.name("inverse", site)
        answer = self.run(name, "inverse", lambda A: self._once(name, "inverse", A, exact.inverse), A)
        assert isinstance(answer, Tensor)
        return answer

    def svd(self, X: Tensor, rank: int, site: str) -> tuple[Tensor, Tensor, Tensor]:
        """The leading singular triplets."""
        if X.dim() < 2 or not 1 <= rank <= min(X.shape[-2:]):
            found = f"X {tuple(X.shape)} and rank {rank}"
            raise InputError("svd(X, rank)", found, "a matrix and a rank from 1 to its smaller side", "Correct it.")
        answer: tuple[Tensor, Tensor, Tensor] = self.run(self.name("svd", site), "svd", exact.svd, X, rank)
        return answer

    def elementwise(self, operation: str, x: Tensor, site: str) -> Tensor:
        """One of `exact.ELEMENTWISE`."""
        answer: Tensor = self.run(self.name(operation, site), operation, exact.ELEMENTWISE[operation], x)
        return answer

    def block(self, site: str, compute: Callable[..., Tensor], *arguments: Any) -> Tensor:
        """compute(*arguments); the sites that it calls itself get the block's name as a prefix."""
        name = self.prefix + site

        def inside(*arguments: Any) -> Tensor:
            before, self.prefix = self.prefix, f"{name}_"
            try:
                return compute(*arguments)
            finally:
                self.prefix = before

        answer = self.run(name, "block", inside, *arguments)
        assert isinstance(answer, Tensor)
        return answer

    def run(self, name: str, operation: str, exactly: Callable[..., Any], *arguments: Any) -> Any:
        """The answer at a site: exact, or of the approximation that was put there."""
        found = self.approximations.get(name)
        given = (exactly, *arguments) if operation == "block" else arguments
        with self._observed(name, operation, given, found):
            answer = exactly(*arguments) if found is None else self._approximate(name, found, given)
        self._check(name, arguments, answer, found)
        self.memory.keep(name, answer)
        return answer

    def _approximate(self, name: str, found: Approximation, given: tuple[Any, ...]) -> Any:
        try:
            if self.starting and found.uses_previous:
                return found.start(*given)
            previous = self.memory.last(name) if found.uses_previous else self.memory.answers.get(name)
            if found.uses_previous and previous is None:
                previous = found.start(*given)
            return found(previous, *given)
        except InputError as problem:
            where = f"site {name}, iteration {self.iteration}: {problem.where}"
            raise InputError(where, problem.found, problem.allowed, problem.do) from None

    def _exact_solve(self, name: str, A: Tensor, b: Tensor, definite: bool) -> Tensor:
        factored = self._once(name, "factor", A, lambda A: exact.factor(A, definite))
        return exact.solve(factored, b, definite)

    def _once(self, name: str, what: str, A: Tensor, compute: Callable[[Tensor], Any]) -> Any:
        """What depends on a matrix alone, computed once where the matrix stays the same in all iterations."""
        known = self.memory.factors.get((name, what))
        if known is not None and known[0] is A:
            return known[1]
        with self._observed(name, "factor", (A,), None):
            found = compute(A)
        self.memory.factors[(name, what)] = (A, found)
        return found

    def _fixed(self, arguments: tuple[Any, ...]) -> Fixed:
        A = arguments[0] if arguments else None
        if not isinstance(A, Tensor):
            return ""
        if self.constants(A):
            return "always"
        return "call" if any(A is t for t in self.memory.shared.values()) else ""

    @contextmanager
    def _observed(
        self, name: str, operation: str, arguments: tuple[Any, ...], found: Approximation | None
    ) -> Iterator[None]:
        observer = self.memory.observer
        if observer is None:
            yield
            return
        begin = self.first_prefix != ""
        fixed = self._fixed(arguments)
        with observer(Visit(name, operation, self.iteration, arguments, found, fixed, begin, self.starting)):
            yield

    def _check(self, name: str, arguments: tuple[Any, ...], answer: Any, found: Approximation | None) -> None:
        if found is None or not self.memory.checked or not may_refuse():
            return
        inputs = [a for a in arguments if isinstance(a, Tensor)]
        if _finite(inputs) and not _finite(answer if isinstance(answer, tuple) else (answer,)):
            raise InputError(
                f"site {name}, iteration {self.iteration}: {found!r}",
                "an answer that is NaN or infinite for finite arguments",
                "arguments for which the approximation converges, inside its range",
                "Check its condition with compensate(...), or take another approximation.",
            )


def _versions(answer: Answer) -> tuple[int, ...]:
    tensors = answer if isinstance(answer, tuple) else (answer,)
    return () if torch.compiler.is_compiling() else tuple(0 if t.is_inference() else t._version for t in tensors)


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(torch.isfinite(t).all()) for t in tensors)


def _demand_square(operation: str, A: Tensor) -> None:
    if A.dim() < 2 or A.shape[-1] != A.shape[-2]:
        raise InputError(
            f"{operation}(A)", f"shape {tuple(A.shape)}", "(n, n) or (batch, n, n)", "Pass a square matrix."
        )
