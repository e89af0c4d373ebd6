"""Which of several lists of modules holds the iterations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from unfoldc.errors import ExportError
from unfoldc.export import export_onnx


def linear() -> nn.Linear:
    return nn.Linear(4, 4)


class Item(nn.Module):
    """Item k of the outer list; runs a network of its own list, or step k of the solver that it belongs to."""

    def __init__(self, step: Callable[[int, Tensor], Tensor] | None, k: int, networks: int) -> None:
        super().__init__()
        self.k = k
        self.priors = nn.ModuleList(linear() for _ in range(networks))
        self._step = [step]

    def forward(self, x: Tensor) -> Tensor:
        step = self._step[0]
        if step is not None:
            return step(self.k, x)
        for network in self.priors:
            x = torch.tanh(network(x))
        return x


class Solver(nn.Module):
    """Two lists; `kind` says how they run."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.priors = nn.ModuleList(linear() for _ in range(3))
        step = self.step if kind == "called from the items" else None
        if kind == "in the items":
            self.priors = nn.ModuleList()
        plain = kind in ("in turns", "one after the other")
        self.layers = nn.ModuleList(linear() if plain else Item(step, k, 3) for k in range(3))

    def step(self, k: int, x: Tensor) -> Tensor:
        return torch.tanh(self.priors[k](2 * x))

    def forward(self, x: Tensor) -> Tensor:
        for k, layer in enumerate(self.layers):
            x = torch.relu(layer(x))
            if self.kind == "in turns":
                x = torch.tanh(self.priors[k](x))
        if self.kind == "one after the other":
            for prior in self.priors:
                x = torch.tanh(prior(x))
        return x


@pytest.mark.parametrize(
    ("kind", "operators"), [("called from the items", 5), ("in the items", 7), ("in turns", 4)], ids=str
)
def test_the_outer_list_whose_items_run_in_order(tmp_path: Path, kind: str, operators: int) -> None:
    torch.manual_seed(0)
    report = export_onnx(Solver(kind), torch.randn(2, 4), tmp_path / "a.onnx")
    assert report.found_by == "3 items of `layers`"
    assert [report.nodes[f"iteration.{k}"] for k in range(3)] == [operators] * 3


def test_lists_that_run_one_after_the_other_leave_a_choice(tmp_path: Path) -> None:
    message = r"several lists of modules run in order: `layers` \(3 items\), `priors` \(3 items\)"
    with pytest.raises(ExportError, match=message):
        export_onnx(Solver("one after the other"), torch.randn(2, 4), tmp_path / "a.onnx")
    report = export_onnx(Solver("one after the other"), torch.randn(2, 4), tmp_path / "a.onnx", iterations="priors")
    assert report.found_by == "3 items of `priors`"


class Looping(nn.Module):
    """A plain loop that runs the items of one list again in each pass."""

    def __init__(self, *items: nn.Module, sequential: bool) -> None:
        super().__init__()
        self.network = nn.Sequential(*items) if sequential else nn.ModuleList(items)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            y = x
            for part in self.network:
                y = part(y)
            x = torch.relu(x - y)
        return x


@pytest.mark.parametrize("sequential", [False, True], ids=["ModuleList", "Sequential"])
@pytest.mark.parametrize("others", [[], [nn.Identity()], [nn.Tanh(), linear()]], ids=["one", "empty", "several"])
def test_a_list_run_again_in_each_pass_holds_no_iterations(
    tmp_path: Path, others: list[nn.Module], sequential: bool
) -> None:
    with pytest.raises(ExportError, match=r"no iterations: `network(\.0)?` runs 3 times"):
        export_onnx(Looping(linear(), *others, sequential=sequential), torch.randn(2, 4), tmp_path / "a.onnx")
