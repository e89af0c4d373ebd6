"""What the solvers of the zoo have in common: K iterations over a tuple of states, as a ModuleList or a plain loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unfoldc.export import iterate

States = tuple[Tensor, ...]
Answer = Tensor | tuple[Tensor, ...]


class Unrolled(nn.Module):
    """K iterations of `step`. Subclasses write `start`, `step` and, where it is not the first state, `answer`.

    Inputs carry the batch on axis 0 unless the entry in the registry says otherwise. Parameters and buffers belong to
    the module, per-iteration ones as tensors with a leading axis of K.
    """

    def __init__(self, iterations: int) -> None:
        super().__init__()
        self.iterations = iterations
        self.form = "loop"
        self.marked = False
        self.layers = nn.ModuleList()

    def start(self, *inputs: Tensor) -> States:
        """The states before the first iteration."""
        raise NotImplementedError

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        """The states after iteration k."""
        raise NotImplementedError

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        """The outputs, made from the states."""
        return states[0]

    def unrolled(self, form: str, marked: bool = False) -> Unrolled:
        """Chooses the form: "layers" runs the items of a ModuleList, "loop" a plain loop, `marked` with our markers."""
        self.form, self.marked = form, marked
        # A plain list entry, not a registered submodule, leads back to the solver: modules must form a tree.
        self.layers = (
            nn.ModuleList(_Layer(self, k) for k in range(self.iterations)) if form == "layers" else nn.ModuleList()
        )
        return self

    def forward(self, *inputs: Tensor) -> Answer:
        """All K iterations."""
        states = self.start(*inputs)
        for k in range(self.iterations):
            if self.form == "layers":
                states = self.layers[k](states, *inputs)
            else:
                states = self.step(k, states, *inputs)
                if self.marked:
                    marked = iterate(*states)
                    states = (marked,) if isinstance(marked, Tensor) else tuple(marked)
        return self.answer(states, *inputs)

    def iterates(self, *inputs: Tensor) -> list[tuple[Tensor, ...]]:
        """The outputs after 1, 2, ..., K iterations."""
        found = []
        states = self.start(*inputs)
        for k in range(self.iterations):
            states = self.step(k, states, *inputs)
            answer = self.answer(states, *inputs)
            found.append((answer,) if isinstance(answer, Tensor) else tuple(answer))
        return found


class _Layer(nn.Module):
    """Iteration k of a solver, as an item of its ModuleList."""

    def __init__(self, solver: Unrolled, k: int) -> None:
        super().__init__()
        self._solver, self.k = [solver], k

    def forward(self, states: States, *inputs: Tensor) -> States:
        return self._solver[0].step(self.k, states, *inputs)


@dataclass(frozen=True)
class Entry:
    """One solver: how to make it, what to feed it, and what is true of it.

    make(iterations, generator) builds the module in float32; example(generator, batch) its inputs. `shared_inputs` are
    positions of inputs without a batch axis (a matrix that all problems share). `runtime_matrix` says that the
    problem's matrix is an input. `field` is the domain, `source` where the algorithm comes from. `tolerance` is the
    relative error allowed in float32 (in float64: 1e-10 unless `tolerance64` says otherwise).
    """

    name: str
    field: str
    source: str
    make: Callable[[int, torch.Generator], Unrolled]
    example: Callable[[torch.Generator, int], tuple[Tensor, ...]]
    iterations: int = 5
    shared_inputs: tuple[int, ...] = ()
    runtime_matrix: bool = False
    dynamic: bool = True
    tolerance: float = 2e-5
    tolerance64: float = 1e-10
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
