"""What the graphs have in common: K iterations in a ModuleList, seeded weights, seeded inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from unfoldc.unfold_train import Unfolded

States = tuple[Tensor, ...]
Tensors = tuple[Tensor, ...]


class Unrolled(nn.Module):
    """K iterations of `step`; a subclass writes `start`, `step` and, where it is not the first state, `answer`."""

    def __init__(self, iterations: int) -> None:
        super().__init__()
        self.iteration = nn.ModuleList(_Iteration(self, k) for k in range(iterations))

    def start(self, *inputs: Tensor) -> States:
        """The states before the first iteration."""
        raise NotImplementedError

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        """The states after iteration k."""
        raise NotImplementedError

    def answer(self, states: States, *inputs: Tensor) -> Tensor:
        """The output, made from the states."""
        return states[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """All K iterations."""
        states = self.start(*inputs)
        for layer in self.iteration:
            states = layer(states, *inputs)
        return self.answer(states, *inputs)


class _Iteration(nn.Module):
    """Iteration k, as an item of the ModuleList."""

    def __init__(self, solver: Unrolled, k: int) -> None:
        super().__init__()
        # A plain list entry, not a registered submodule, leads back to the solver: modules must form a tree.
        self._solver, self.k = [solver], k

    def forward(self, states: States, *inputs: Tensor) -> States:
        return self._solver[0].step(self.k, states, *inputs)


@dataclass(frozen=True)
class Graph:
    """One graph of the benchmark.

    make(iterations, generator) builds the module in float32, inputs(generator, batch) what it is fed, `(batch, ...)`
    each. `plain` makes the same in operations that every peer takes, where `make` needs others. `dynamic` says whether
    one file serves every batch; `why_fixed` why not. `matrix_vector` marks the graphs whose time is that of products of
    constant matrices with a vector. `tolerance` is the relative error allowed, `layers` the path of the ModuleList.
    """

    name: str
    title: str
    iterations: int
    make: Callable[[int, Generator], nn.Module]
    inputs: Callable[[Generator, int], Tensors]
    plain: Callable[[int, Generator], nn.Module] | None = None
    dynamic: bool = True
    why_fixed: str = ""
    matrix_vector: bool = False
    opset: int = 20
    tolerance: float = 1e-4
    layers: str = "iteration"

    def module(self, iterations: int | None = None, plain: bool = False) -> nn.Module:
        """The module in evaluation mode, the same weights in every process."""
        make = self.plain if plain and self.plain is not None else self.make
        made = make(iterations or self.iterations, torch.Generator().manual_seed(1))
        return made.eval().requires_grad_(False)

    def answer(self, inputs: Tensors) -> Tensor:
        """The right answer, in float64."""
        module = self.module().double()
        if isinstance(module, Unfolded):
            module.solver = module.solver.with_type(torch.float64)
            module.example = {name: tensor.double() for name, tensor in module.example.items()}
            module.fold_constants()
        with torch.no_grad():
            right: Tensor = module(*(t.double() for t in inputs))
        return right

    def example(self, batch: int, seed: int = 2) -> Tensors:
        """Inputs of a batch."""
        return self.inputs(torch.Generator().manual_seed(seed), batch)


def normal(generator: Generator, scale: float, *shape: int) -> Tensor:
    """Normal numbers of a standard deviation."""
    return scale * torch.randn(*shape, generator=generator)


def soft(x: Tensor, theta: Tensor | float) -> Tensor:
    """The soft threshold, x without its part in [-theta, theta]; NaN stays NaN."""
    return x - torch.clamp(x, -theta, theta)
