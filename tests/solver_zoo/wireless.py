"""Wireless: detectors and beamformers; the channel comes at run time, complex numbers as a trailing pair of reals."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from solver_zoo.base import Answer, Entry, States, Unrolled

RECEIVE, SEND = 10, 8


class DetNet(Unrolled):
    """DetNet: z = relu(W1 [Hᵀy, x, HᵀHx, v]), x = clip(W2 z), v = W3 z, with a residual part; H (batch, m, n)."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        scale = 0.2
        self.w1 = nn.Parameter(scale * torch.randn(iterations, 3 * SEND + 6, 20, generator=generator))
        self.b1 = nn.Parameter(scale * torch.randn(iterations, 20, generator=generator))
        self.w2 = nn.Parameter(scale * torch.randn(iterations, 20, SEND, generator=generator))
        self.w3 = nn.Parameter(scale * torch.randn(iterations, 20, 6, generator=generator))
        self.slope = nn.Parameter(0.5 + torch.rand(iterations, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        y = inputs[0]
        return y.new_zeros(y.shape[0], SEND), y.new_zeros(y.shape[0], 6)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, v), (y, H) = states, inputs
        matched = torch.einsum("bmn,bm->bn", H, y)
        gram = torch.bmm(H.transpose(1, 2), H)
        curved = torch.einsum("bij,bj->bi", gram, x)
        z = torch.relu(torch.cat([matched, x, curved, v], 1) @ self.w1[k] + self.b1[k])
        t = self.slope[k].abs()
        u = 0.5 * x + z @ self.w2[k]
        x = -1 + functional.relu(u + t) / t - functional.relu(u - t) / t
        return x, 0.5 * v + z @ self.w3[k]


class OampNet(Unrolled):
    """OAMP-Net: linear estimator, its inverse by Newton's iteration in an inner loop, then a 4-PAM symbol's mean."""

    levels: Tensor
    unit: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("levels", torch.tensor([-3.0, -1.0, 1.0, 3.0]) / math.sqrt(5))
        self.register_buffer("unit", torch.eye(SEND))
        self.gamma = nn.Parameter(0.8 + 0.2 * torch.rand(iterations, generator=generator))
        self.theta = nn.Parameter(0.8 + 0.2 * torch.rand(iterations, generator=generator))

    def _inverse(self, M: Tensor) -> Tensor:
        bound = torch.amax(M.abs().sum(-1), dim=-1)[:, None, None]
        X = self.unit / bound
        for _ in range(6):
            X = X @ (2 * self.unit - M @ X)
        return X

    def start(self, *inputs: Tensor) -> States:
        return (inputs[0].new_zeros(inputs[0].shape[0], SEND),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x,), (y, H) = states, inputs
        gram = H.mT @ H
        residual = y - (H @ x.unsqueeze(-1)).squeeze(-1)
        energy = gram.diagonal(dim1=1, dim2=2).sum(-1)
        variance = ((residual.square().sum(-1) - 0.5 * RECEIVE) / (energy + 1)).clamp(0.0625, 2.0)
        inverse = self._inverse(gram + (0.5 / variance)[:, None, None] * self.unit)
        matched = torch.einsum("bnk,bmk,bm->bn", inverse, H, residual)
        scale = SEND / (torch.einsum("bij,bji->b", inverse, gram) + 0.5)
        r = x + self.gamma[k] * (scale.unsqueeze(-1) * matched)
        spread = (self.theta[k] * variance).reshape(-1, 1, 1) + 0.25
        weights = torch.softmax(-(r.unsqueeze(-1) - self.levels).square() / (2 * spread), dim=-1)
        return (weights @ self.levels,)


class SoftInterference(Unrolled):
    """Parallel soft interference cancellation for QPSK: y (batch, m, 2), H (batch, m, n, 2), pairs of reals.

    Each user's signal is what is left when the others' soft symbols are taken out, x = tanh(filtered / spread_k).
    """

    swap: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        # (a + ib)(c + id) as a product with constant structure: result r = sum of swap[p, q, r] a_p c_q.
        swap = torch.zeros(2, 2, 2)
        swap[0, 0, 0] = swap[0, 1, 1] = swap[1, 0, 1] = 1.0
        swap[1, 1, 0] = -1.0
        self.register_buffer("swap", swap)
        self.spread = nn.Parameter(0.5 + 0.5 * torch.rand(iterations, generator=generator))
        self.damping = nn.Parameter(0.5 + 0.3 * torch.rand(iterations, SEND, 1, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        return (inputs[0].new_zeros(inputs[0].shape[0], SEND, 2),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x,), (y, H) = states, inputs
        images = torch.einsum("bmnp,bnq,pqr->bmnr", H, x, self.swap)
        left = (y - images.sum(2)).unsqueeze(2) + images
        filtered = torch.einsum("bmnq,bmnr,qpr->bnp", left, H, self._adjoint())
        norm = H.square().sum((1, 3)).unsqueeze(-1) + 0.125
        soft = torch.tanh(filtered / (norm * self.spread[k])) * 0.75
        return (x + self.damping[k] * (soft - x),)

    def _adjoint(self) -> Tensor:
        """conj(h) l = sum of adjoint[q, p, r] l_q h_r."""
        return torch.stack(
            [torch.stack([self.swap[0, 0], self.swap[0, 1]]), torch.stack([self.swap[0, 1], self.swap[0, 0]])]
        )

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        return states[0], functional.logsigmoid(4 * states[0])


class Beamforming(Unrolled):
    """Projected gradient for a beamformer W (batch, n, users, 2) with H W = I as aim and bounded power per antenna."""

    unit: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("unit", torch.eye(4))
        self.rate = nn.Parameter(0.5 + 0.5 * torch.rand(iterations, generator=generator))
        self.momentum = nn.Parameter(0.3 * torch.rand(iterations, generator=generator))

    @staticmethod
    def _product(form: str, a: Tensor, b: Tensor, sign: float) -> Tensor:
        """A product of complex matrices; with sign -1 the first one is conjugated."""
        (ar, ai), (br, bi) = a.unbind(-1), b.unbind(-1)
        real = torch.einsum(form, ar, br) - sign * torch.einsum(form, ai, bi)
        return torch.stack([real, torch.einsum(form, ar, bi) + sign * torch.einsum(form, ai, br)], -1)

    def start(self, *inputs: Tensor) -> States:
        H, _ = inputs
        zero = torch.zeros_like(H).transpose(1, 2)
        return zero, zero

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (W, previous), (H, power) = states, inputs
        V = W + self.momentum[k] * (W - previous)
        aim = torch.stack([self.unit, torch.zeros_like(self.unit)], -1)
        residual = self._product("bun,bnv->buv", H, V, 1.0) - aim
        gradient = self._product("bun,buv->bnv", H, residual, -1.0)
        V = V - self.rate[k] * gradient / H.square().sum((1, 2, 3), keepdim=True)
        used = V.square().sum((2, 3), keepdim=True)
        allowed = power.abs()[:, :, None, None]
        return torch.where(used > allowed, V * torch.sqrt(allowed / (used + 2**-20)), V), W


class ReflectingSurface(Unrolled):
    """Phases of a reflecting surface: gradient of |Σ h_i g_i p_i + d|², then each entry back to the unit circle."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.rate = nn.Parameter(0.2 + 0.3 * torch.rand(iterations, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        ones = torch.ones_like(inputs[0][..., :1])
        return (torch.cat([ones, torch.zeros_like(ones)], -1),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (p,), (cascade, direct) = states, inputs
        a, b = cascade[..., 0], cascade[..., 1]
        real = (a * p[..., 0] - b * p[..., 1]).sum(1) + direct[:, 0]
        imaginary = (a * p[..., 1] + b * p[..., 0]).sum(1) + direct[:, 1]
        real, imaginary = real.unsqueeze(1), imaginary.unsqueeze(1)
        gradient = torch.stack((a * real + b * imaginary, a * imaginary - b * real), dim=-1)
        p = p + self.rate[k] * gradient
        return (p / (torch.linalg.vector_norm(p, dim=-1, keepdim=True) + 2**-10),)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        p = states[0]
        return p, torch.atan2(p[..., 1], p[..., 0] + 2)


class Wmmse(Unrolled):
    """WMMSE power control: u = h v / (Σ h² v² + s), w = 1 / (1 - u h v), v = clip(a w u h / Σ a w u² h²).

    The inputs are the channel (batch, n, n) and the users' priorities a (batch, n); the sum rate is the second output.
    """

    unit: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("unit", torch.eye(SEND))
        self.noise = nn.Parameter(0.3 + 0.3 * torch.rand(SEND, generator=generator))
        self.cap = nn.Parameter(0.8 + 0.4 * torch.rand(iterations, SEND, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        return (torch.full_like(inputs[1], 0.75),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (v,), (H, priority) = states, inputs
        gain = H.square()
        own = (H * self.unit).sum(-1).abs()
        received = (gain * v.square().unsqueeze(1)).sum(-1) + self.noise
        u = own * v / received
        w = priority.abs() / (1 - u * own * v)
        pull = torch.einsum("bij,bi,bi->bj", gain, w, u.square())
        return (torch.clamp(w * u * own / (pull + 2**-10), min=torch.zeros_like(self.noise), max=self.cap[k]),)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        (v,), (H, priority) = states, inputs
        power = H.square() * v.square().unsqueeze(1)
        own = (power * self.unit).sum(-1)
        rate = torch.log1p(own / (power.sum(-1) - own + self.noise))
        return v, (priority.abs() * rate).sum(-1)


def _detection(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    H = torch.randn(batch, RECEIVE, SEND, generator=generator) / math.sqrt(RECEIVE)
    return torch.randn(batch, RECEIVE, generator=generator), H


def _complex(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    H = torch.randn(batch, RECEIVE, SEND, 2, generator=generator) / math.sqrt(2 * RECEIVE)
    return torch.randn(batch, RECEIVE, 2, generator=generator), H


def _downlink(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    H = torch.randn(batch, 4, SEND, 2, generator=generator) / math.sqrt(2)
    return H, 0.02 + 0.1 * torch.rand(batch, SEND, generator=generator)


def _surface(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return torch.randn(batch, 16, 2, generator=generator) / 4, torch.randn(batch, 2, generator=generator)


def _interference(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    H = torch.randn(batch, SEND, SEND, generator=generator) / 2 + torch.eye(SEND)
    return H, 0.5 + torch.rand(batch, SEND, generator=generator)


_FIELD = "wireless"
ENTRIES: tuple[Entry, ...] = (
    Entry("detnet", _FIELD, "Samuel, Diskin, Wiesel 2019", DetNet, _detection, runtime_matrix=True),
    Entry("oamp_net", _FIELD, "He et al. 2020", OampNet, _detection, runtime_matrix=True),
    Entry("soft_interference", _FIELD, "parallel cancellation, QPSK", SoftInterference, _complex, runtime_matrix=True),
    Entry("beamforming", _FIELD, "projected gradient with momentum", Beamforming, _downlink, runtime_matrix=True),
    Entry(
        "reflecting_surface", _FIELD, "gradient on the unit circles", ReflectingSurface, _surface, runtime_matrix=True
    ),
    Entry("wmmse", _FIELD, "Shi et al. 2011, one antenna each", Wmmse, _interference, runtime_matrix=True),
)
