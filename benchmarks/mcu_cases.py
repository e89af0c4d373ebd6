"""The ten solvers of the microcontroller benchmark, in sizes that fit a microcontroller."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speed_cases import imaging, matrices, sparse, wireless
from speed_cases.base import Graph, States, Tensors
from torch import Generator, Tensor

from unfoldc.unfold_train import Unfolded

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from solver_zoo.filtering import Kalman
from solver_zoo.registry import SOLVERS as ZOO

ITERATIONS = 16
ONE, MANY = 1, 32  # iterations between which the stack must not change


@dataclass(frozen=True)
class Case:
    """A solver. `tied`: it has matrices of constants, and all iterations share them."""

    graph: Graph
    field: str
    tied: bool

    def iterations(self, count: int) -> Case:
        """The solver with so many iterations; a filter is fed with as many measurements."""
        return replace(self, graph=replace(self.graph, iterations=count, inputs=_streams(self.graph, count)))


class PlainKalman(Kalman):
    """The zoo's filter with matrix products for its sums over indices, of which emx-onnx-cgen takes few."""

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        """One prediction and correction."""
        (x, P), (y, H) = states, inputs
        x = x @ self.F.T
        P = self.F @ P @ self.F.T + self.q[k] * self.unit
        for i in range(2):
            h = H[:, i].unsqueeze(2)
            Ph = P @ h
            gain = Ph / (h.mT @ Ph + self.r[i])
            x = x + gain.squeeze(2) * (y[:, k, i : i + 1] - (h.squeeze(2) * x).sum(-1, keepdim=True))
            P = P - gain @ Ph.mT
        return x, P


def _streams(graph: Graph, count: int) -> Callable[[Generator, int], Tensors]:
    if graph.name not in ZOO or "stream" not in ZOO[graph.name].notes:
        return graph.inputs
    entry = ZOO[graph.name]
    streams = {int(i) for i in entry.notes["stream"].split(",")}

    def draw(generator: Generator, batch: int) -> Tensors:
        tensors = entry.example(generator, batch)
        repeats = -(-count // min(tensors[i].shape[1] for i in streams))
        return tuple(torch.cat([t] * repeats, 1)[:, :count] if i in streams else t for i, t in enumerate(tensors))

    return draw


def _graph(name: str, title: str, make: Any, inputs: Any) -> Graph:
    return Graph(name, title, ITERATIONS, make, inputs, dynamic=False)


def _kalman(iterations: int, generator: Generator) -> torch.nn.Module:
    return PlainKalman(iterations, generator).unrolled("layers")


def _channels(generator: Generator, batch: int) -> Tensors:
    return (0.7 * torch.randn(batch, 4, 16, 2, generator=generator),)


def _interference(generator: Generator, batch: int) -> Tensors:
    return (0.4 * torch.randn(batch, 8, 8, generator=generator) + torch.eye(8),)


def _images(generator: Generator, batch: int) -> Tensors:
    return (torch.rand(batch, 16, 16, generator=generator),)


def _histograms(generator: Generator, batch: int) -> Tensors:
    a, b = (0.1 + torch.rand(batch, 32, generator=generator) for _ in range(2))
    return a / a.sum(-1, keepdim=True), b / b.sum(-1, keepdim=True)


def _lista(m: int, n: int, tied: bool) -> Graph:
    kind = "tied" if tied else "untied"
    return _graph(f"lista-{kind}", f"LISTA {m}→{n}, {kind}", sparse.lista(m, n, tied), sparse.vectors(m))


CASES: dict[str, Case] = {
    case.graph.name: case
    for case in (
        Case(_lista(32, 64, True), "sparse recovery", True),
        Case(_lista(16, 32, False), "sparse recovery", False),
        Case(
            _graph("fista", "FISTA, Gram matrix, 32→64", lambda k, g: sparse.FistaGram(k, g, 32, 64),
                   sparse.vectors(32)),
            "sparse recovery", True,
        ),
        Case(
            _graph("admm-lasso", "ADMM-LASSO, 16→32", lambda k, g: sparse.AdmmLasso(k, g, 16, 32), sparse.vectors(16)),
            "splitting", True,
        ),
        Case(_graph("mpc", "MPC by box-ADMM, 8→40", sparse.PredictiveControl, sparse.vectors(8)), "control", True),
        Case(
            _graph("beamforming", "projected-gradient beamforming, 16 antennas, 4 users",
                   lambda k, g: wireless.Beamforming(k, g, 4), _channels),
            "wireless", False,
        ),
        Case(
            _graph("wmmse", "WMMSE, 8 users", lambda k, g: wireless.Wmmse(k, g, 8), _interference), "wireless", False
        ),
        Case(
            _graph("tv", "TV denoising by Chambolle–Pock, 16×16", imaging.TotalVariation, _images), "imaging", False
        ),
        Case(
            replace(_graph("kalman", "Kalman filter, 6 states, 2 sensors", _kalman, ZOO["kalman"].example),
                    layers="layers"),
            "filtering", False,
        ),
        Case(
            _graph("sinkhorn", "Sinkhorn, n = 32", lambda k, g: matrices.Sinkhorn(k, g, 32), _histograms),
            "optimal transport", True,
        ),
    )
}  # fmt: skip


def answers(graph: Graph, inputs: Tensors) -> list[np.ndarray]:
    """The right outputs, in float64."""
    module = graph.module().double()
    if isinstance(module, Unfolded):
        module.solver = module.solver.with_type(torch.float64)
        module.example = {name: tensor.double() for name, tensor in module.example.items()}
        module.fold_constants()
    with torch.no_grad():
        right = module(*(t.double() for t in inputs))
    return [t.numpy() for t in ((right,) if isinstance(right, torch.Tensor) else right)]
