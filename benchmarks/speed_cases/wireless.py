"""Wireless: the channel is an input of each call, complex numbers are pairs of reals on the last axis."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from speed_cases.base import Graph, States, Tensors, Unrolled, normal


class Beamforming(Unrolled):
    """Projected gradient for W (batch, antennas, users, 2): H W near the identity, the total power at most `power`."""

    unit: Tensor
    power = 2.0

    def __init__(self, iterations: int, generator: Generator, users: int) -> None:
        super().__init__(iterations)
        self.register_buffer("unit", torch.eye(users))
        self.rate = (0.6 + 0.4 * torch.rand(iterations, generator=generator)).tolist()

    def start(self, *inputs: Tensor) -> States:
        H = inputs[0]
        real, imaginary = H[..., 0].mT, -H[..., 1].mT
        scale = 1 / H.square().sum((1, 2, 3)).reshape(-1, 1, 1)
        return scale * real, scale * imaginary, scale

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (Wr, Wi, scale), H = states, inputs[0]
        Hr, Hi = H[..., 0], H[..., 1]
        Er, Ei = Hr @ Wr - Hi @ Wi - self.unit, Hr @ Wi + Hi @ Wr
        step = 8 * self.rate[k] * scale
        Wr = Wr - step * (Hr.mT @ Er + Hi.mT @ Ei)
        Wi = Wi - step * (Hr.mT @ Ei - Hi.mT @ Er)
        used = (Wr.square() + Wi.square()).sum((1, 2)).reshape(-1, 1, 1)
        shrink = torch.sqrt(self.power / torch.clamp(used, min=self.power))
        return Wr * shrink, Wi * shrink, scale

    def answer(self, states: States, *inputs: Tensor) -> Tensor:
        return torch.stack(states[:2], -1)


class Wmmse(Unrolled):
    """Power control: u = h v / (Σ g v² + s), w = 1 / (1 - u h v), v = clip(w u h / Σ g w u²), g = h² (batch, n, n)."""

    unit: Tensor
    noise, cap = 0.3, 1.0

    def __init__(self, iterations: int, generator: Generator, users: int) -> None:
        super().__init__(iterations)
        self.register_buffer("unit", torch.eye(users))

    def start(self, *inputs: Tensor) -> States:
        H = inputs[0]
        own = (H * self.unit).sum(-1).abs()
        return 0.75 * torch.ones_like(own), own, H.square()

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        v, own, gain = states
        received = (gain @ v.square().unsqueeze(-1)).squeeze(-1) + self.noise
        u = own * v / received
        w = 1 / (1 - u * own * v)
        pull = ((w * u.square()).unsqueeze(1) @ gain).squeeze(1)
        return torch.clamp(w * u * own / (pull + 2**-10), 0.0, self.cap), own, gain


class SoftCancellation(Unrolled):
    """A small network for each user and iteration: y (m) and the others' soft bits (n) → 32 → the user's soft bit."""

    others: Tensor

    def __init__(self, iterations: int, generator: Generator, users: int, antennas: int) -> None:
        super().__init__(iterations)
        self.register_buffer("others", 1 - torch.eye(users))
        hidden, inside = 32, users + antennas
        self.W1 = torch.nn.Parameter(normal(generator, inside**-0.5, iterations, users, inside, hidden))
        self.b1 = torch.nn.Parameter(normal(generator, 0.1, iterations, users, 1, hidden))
        self.W2 = torch.nn.Parameter(normal(generator, 2 * hidden**-0.5, iterations, users, hidden, 1))
        self.b2 = torch.nn.Parameter(normal(generator, 0.1, iterations, users, 1, 1))

    def start(self, *inputs: Tensor) -> States:
        y = inputs[0]
        return (0.5 * torch.ones_like(y[:, :1]).expand(-1, self.others.shape[0]),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (p,), y = states, inputs[0]
        others = p.unsqueeze(0) * self.others.unsqueeze(1)
        seen = torch.cat([y.unsqueeze(0).expand(self.others.shape[0], -1, -1), others], -1)
        hidden = torch.relu(seen @ self.W1[k] + self.b1[k])
        return (torch.sigmoid(hidden @ self.W2[k] + self.b2[k]).squeeze(-1).mT,)


class NewtonSchulzDetector(Unrolled):
    """x = X Hᵀy with X ≈ (HᵀH + s I)⁻¹ by X ← X (2 I - G X) from the diagonal; H (batch, m, n)."""

    unit: Tensor

    def __init__(self, iterations: int, generator: Generator, users: int) -> None:
        super().__init__(iterations)
        self.register_buffer("unit", torch.eye(users))

    def start(self, *inputs: Tensor) -> States:
        G = inputs[1].mT @ inputs[1] + 0.1 * self.unit
        return self.unit / G.abs().sum(-1).amax(-1).reshape(-1, 1, 1), G

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        X, G = states
        return X @ (2 * self.unit - G @ X), G

    def answer(self, states: States, *inputs: Tensor) -> Tensor:
        y, H = inputs
        return (states[0] @ (H.mT @ y.unsqueeze(-1))).squeeze(-1)


def _downlink(generator: Generator, batch: int) -> Tensors:
    return (normal(generator, math.sqrt(0.5), batch, 8, 32, 2),)


def _interference(generator: Generator, batch: int) -> Tensors:
    return (normal(generator, 0.4, batch, 16, 16) + torch.eye(16),)


def _received(generator: Generator, batch: int) -> Tensors:
    return (torch.randn(batch, 8, generator=generator),)


def _detection(generator: Generator, batch: int) -> Tensors:
    return torch.randn(batch, 32, generator=generator), normal(generator, 32**-0.5, batch, 32, 16)


def graphs() -> Iterator[Graph]:
    """The graphs of this file."""
    yield Graph(
        "beamforming", "projected-gradient beamforming, 32 antennas, 8 users", 16, lambda k, g: Beamforming(k, g, 8),
        _downlink,
    )  # fmt: skip
    yield Graph("wmmse", "WMMSE, 16 users", 16, lambda k, g: Wmmse(k, g, 16), _interference)
    yield Graph(
        "soft-cancellation", "soft interference cancellation with networks, 8 users", 5,
        lambda k, g: SoftCancellation(k, g, 8, 8), _received,
    )  # fmt: skip
    yield Graph(
        "newton-schulz", "Newton–Schulz detector, 32×16", 8, lambda k, g: NewtonSchulzDetector(k, g, 16), _detection
    )
