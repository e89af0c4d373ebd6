"""What the runtime asks of an engine, the thing that executes a compiled solver: a class per back end, all alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from unfoldc.errors import InputError

if TYPE_CHECKING:
    from unfoldc.targets.emulator import Counts
    from unfoldc.targets.remote.device import Ticks
    from unfoldc.targets.remote.protocol import Hello


class Engine(Protocol):
    """Executes one compiled solver. Several threads may call at once.

    The arrays are C-contiguous and of the ports' types: the solver has checked them. A batched port has the batch axis
    in front, and `batch` may be 0, which measures the cost of a call. Iterations run from 1 to K.
    """

    def solve(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        """Solve `batch` problems with that many iterations; write the answers into `outputs`."""
        ...

    def profile(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        batch: int,
        iterations: int,
        ticks: np.ndarray,
    ) -> None:
        """Like `solve`, and add the ticks of begin, of each iteration and of end to the K + 2 items of `ticks`."""
        ...


class WithoutStamps:
    """An engine that does not know when its parts end; `why` is the error: where, what was found, is allowed, to do."""

    why = ("emulated device", "it has no clock", "counting instructions", "Use Solver.profile.")

    def profile(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        batch: int,
        iterations: int,
        ticks: np.ndarray,
    ) -> None:
        """Not possible: raises InputError."""
        raise InputError(*self.why)


class CountingEngine(Engine, Protocol):
    """An engine of an emulated device: it counts instructions where others read a clock."""

    flash_bytes: int
    ram_bytes: int
    stack_bound_bytes: int | None

    def count(self, inputs: Sequence[np.ndarray]) -> Counts:
        """Run one problem (the first of the batch) and count its instructions."""
        ...


class TickingEngine(Engine, Protocol):
    """An engine of a connected device: it reads the device's own clock, for the way there takes longer than a solve."""

    @property
    def hello(self) -> Hello:
        """What the device says of itself, its clock among it."""
        ...

    def counts(
        self, problem: Sequence[np.ndarray], iterations: int, repeats: int, seconds: float = 30.0, warm_up: int = 0
    ) -> Ticks:
        """What the clock counts in each repetition, at most `repeats` of them in about `seconds`, for one problem."""
        ...

    def close(self) -> None:
        """Give the device back; the next call connects again."""
        ...


class BindingEngine(Engine, Protocol):
    """An engine that prepares a call once, so that each takes little more than the compiled code."""

    def bind(
        self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int, answer: Any
    ) -> Callable[[], Any]:
        """`solve` with these arguments, which then returns `answer`; nothing else uses what it works in."""
        ...


def bound_solve(
    engine: Engine | BindingEngine,
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    batch: int,
    iterations: int,
    answer: Any,
) -> Callable[[], Any]:
    """A function that solves with these arguments and returns `answer`: the engine's own, where it prepares one."""
    bind = getattr(engine, "bind", None)
    if bind is not None:
        return cast(BindingEngine, engine).bind(inputs, outputs, batch, iterations, answer)

    def solve() -> Any:
        engine.solve(inputs, outputs, batch, iterations)
        return answer

    return solve
