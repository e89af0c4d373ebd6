"""The graphs of the benchmark on GPUs: small solvers where launches are everything, and two that fill the device."""

from __future__ import annotations

from dataclasses import replace

import torch
from speed_cases import GRAPHS, find_graph
from speed_cases.base import Graph, States, Tensors, Unrolled, normal
from torch import Generator, Tensor

ANTENNAS, USERS = 16, 8


class MimoAdmm(Unrolled):
    """min |y - H x|² with |x_i| ≤ 1 by ADMM: x ← (G + rho I)⁻¹ (Hᵀy + rho (z - u)), G = HᵀH; H (batch, m, n) is given.

    The inverse is taken once, by Gauss and Jordan's elimination, in operations that every peer takes.
    """

    index: Tensor
    rho = 0.5

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("index", torch.arange(USERS).reshape(USERS, 1))

    def start(self, *inputs: Tensor) -> States:
        y, H = inputs
        unit = (self.index == self.index.T).to(H.dtype)
        matched = (H.mT @ y.unsqueeze(-1)).squeeze(-1)
        zero = torch.zeros_like(matched)
        return zero, zero, matched, self._inverse(H.mT @ H + self.rho * unit)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        z, u, matched, M = states
        x = (M @ (matched + self.rho * (z - u)).unsqueeze(-1)).squeeze(-1)
        z = torch.clamp(x + u, -1.0, 1.0)
        return z, u + x - z, matched, M

    def _inverse(self, A: Tensor) -> Tensor:
        both = torch.cat([A, (self.index == self.index.T).to(A.dtype).expand_as(A)], -1)
        for i in range(USERS):
            row = both[:, i : i + 1] / both[:, i : i + 1, i : i + 1]
            both = torch.where(self.index == i, row, both - both[:, :, i : i + 1] * row)
        return both[:, :, USERS:]


def _received(generator: Generator, batch: int) -> Tensors:
    H = normal(generator, ANTENNAS**-0.5, batch, ANTENNAS, USERS)
    x = torch.sign(torch.randn(batch, USERS, generator=generator))
    y = (H @ x.unsqueeze(-1)).squeeze(-1) + normal(generator, 0.1, batch, ANTENNAS)
    return y, H


# What K = 10 has in the goals has it here; the others are as in speed_cases.
_MIMO = Graph("mimo-admm", f"ADMM detector for MIMO, {ANTENNAS}×{USERS}", 10, MimoAdmm, _received)
GPU_GRAPHS: dict[str, Graph] = {
    graph.name: graph
    for graph in (
        find_graph("lista-16-32-tied-k10"),
        find_graph("lista-32-64-tied-k10"),
        replace(GRAPHS["wmmse"], iterations=10),
        replace(GRAPHS["beamforming"], iterations=10),
        _MIMO,
        replace(GRAPHS["lista-250-500-tied"], iterations=10),
        replace(GRAPHS["rpca-1000"], iterations=10),
    )
}
