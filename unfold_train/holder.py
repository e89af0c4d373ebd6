"""Modules that hold values: constants as buffers, learned values as parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unfoldc.unfold_train.solver import Solver
from unfoldc.unfold_train.values import View


class Holder(nn.Module):
    """Values by name.

    A constant `theta` is a buffer `theta`; a learned one is a parameter `theta`; a learned positive one is
    start_theta · exp(log_theta) with log_theta = 0 at first, so that it stays positive and starts bit for bit
    at its classical value.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, str] = {}

    def keep(self, name: str, tensor: Tensor) -> None:
        """Hold a constant."""
        self.held[name] = "constant"
        self.register_buffer(name, tensor.detach().clone())

    def learn(self, name: str, start: Tensor, positive: bool) -> None:
        """Hold a learned value that starts at `start`."""
        self.held[name] = "positive" if positive else "free"
        if positive:
            self.register_buffer(f"start_{name}", start.detach().clone())
            self.register_parameter(f"log_{name}", nn.Parameter(torch.zeros_like(start)))
        else:
            self.register_parameter(name, nn.Parameter(start.detach().clone()))

    def learned_parameter(self, name: str) -> nn.Parameter:
        """The parameter behind a learned value."""
        return self.get_parameter(f"log_{name}" if self.held[name] == "positive" else name)

    def find(self, name: str) -> Tensor | None:
        """The present value, or None where it is not held here."""
        kind = self.held.get(name)
        if kind is None:
            return None
        if kind == "positive":
            return self.get_buffer(f"start_{name}") * self.get_parameter(f"log_{name}").exp()
        found: Tensor = getattr(self, name)
        return found


class Begin(nn.Module):
    """What runs once before the iterations; `approximations` by call site of `init`."""

    def __init__(self, solver: Solver) -> None:
        super().__init__()
        self.solver = solver
        self.approximations = nn.ModuleDict()

    def forward(self, v: View, shared: Sequence[str], starting: View | None) -> Any:
        """The initial state.

        The values that all iterations share are computed here, and the answers that warm starts begin with: for these
        the first iteration is run with cold starts, and all else that it gives is dropped.
        """
        for name in shared:
            getattr(v, name)
        state = self.solver.init(v)
        if starting is not None:
            self.solver.step(starting, state)
        return state


class Iteration(Holder):
    """One iteration, with the values that belong to it alone; `approximations` by call site."""

    def __init__(self, solver: Solver) -> None:
        super().__init__()
        self.solver = solver
        self.approximations = nn.ModuleDict()

    def forward(self, v: View, state: Any) -> Any:
        """The next state."""
        return self.solver.step(v, state)


class End(nn.Module):
    """What turns a state into the estimate."""

    def __init__(self, solver: Solver) -> None:
        super().__init__()
        self.solver = solver

    def forward(self, v: View, state: Any) -> Tensor:
        """The estimate."""
        return self.solver.output(v, state)
