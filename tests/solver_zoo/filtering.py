"""Filters: each iteration reads its slice of a stream of measurements, and most give an estimate in each iteration."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from solver_zoo.base import Answer, Entry, States, Unrolled
from unfoldc.export import iterate


class Streaming(Unrolled):
    """A solver with an output per iteration: `record` of the states, stacked to (batch, K, ...).

    After k iterations the outputs are those of a filter of k iterations: the stack has k rows.
    """

    def record(self, states: States) -> Tensor:
        """What iteration k adds to the stacked output."""
        return states[0]

    def finish(self, rows: list[Tensor], states: States) -> Answer:
        """The outputs, from what the iterations recorded and the last states."""
        return torch.stack(rows, 1)

    def forward(self, *inputs: Tensor) -> Answer:
        states, rows = self.start(*inputs), list[Tensor]()
        for k in range(self.iterations):
            if self.form == "layers":
                states = self.layers[k](states, *inputs)
            else:
                states = self.step(k, states, *inputs)
                if self.marked:
                    marked = iterate(*states)
                    states = (marked,) if isinstance(marked, Tensor) else tuple(marked)
            rows.append(self.record(states))
        return self.finish(rows, states)

    def iterates(self, *inputs: Tensor) -> list[tuple[Tensor, ...]]:
        states, rows, found = self.start(*inputs), list[Tensor](), []
        for k in range(self.iterations):
            states = self.step(k, states, *inputs)
            rows.append(self.record(states))
            answer = self.finish(rows, states)
            found.append((answer,) if isinstance(answer, Tensor) else tuple(answer))
        return found


class Kalman(Streaming):
    """Kalman filter, one measurement after the other: y (batch, K, m), H (batch, m, n) at run time.

    x = F x, P = F P Fᵀ + q_k I; for every row h of H: g = P h / (hᵀP h + r), x += g (y - hᵀx), P -= g hᵀP.
    """

    F: Tensor
    unit: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        basis, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator))
        self.register_buffer("F", 0.95 * basis)
        self.register_buffer("unit", torch.eye(6))
        self.q = nn.Parameter(0.05 + 0.1 * torch.rand(iterations, generator=generator))
        self.r = nn.Parameter(0.2 + 0.1 * torch.rand(2, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        y, _ = inputs
        return y.new_zeros(y.shape[0], 6), self.unit.expand(y.shape[0], 6, 6)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, P), (y, H) = states, inputs
        x = x @ self.F.T
        P = torch.einsum("ij,bjk,lk->bil", self.F, P, self.F) + self.q[k] * self.unit
        for i in range(2):
            h = H[:, i]
            Ph = torch.einsum("bij,bj->bi", P, h)
            gain = Ph / (torch.einsum("bi,bi->b", h, Ph) + self.r[i]).unsqueeze(-1)
            x = x + gain * (y[:, k, i : i + 1] - (h * x).sum(-1, keepdim=True))
            P = P - torch.einsum("bi,bj->bij", gain, Ph)
        return x, P

    def finish(self, rows: list[Tensor], states: States) -> Answer:
        return torch.stack(rows, 1), states[1]


class AlphaBeta(Streaming):
    """Alpha-beta tracker with a gate: e = clip(y_k - p - v, c_k), p += v + a_k e, v += b_k e; y (batch, K, n)."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.alpha = nn.Parameter(0.4 + 0.3 * torch.rand(iterations, generator=generator))
        self.beta = nn.Parameter(0.1 + 0.1 * torch.rand(iterations, generator=generator))
        self.gate = nn.Parameter(0.8 + torch.rand(iterations, 8, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        first = inputs[0][:, 0]
        return (torch.cat([first, torch.zeros_like(first)], 1),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        position, speed = states[0].chunk(2, dim=1)
        e = inputs[0][:, k] - position - speed
        e = torch.minimum(torch.maximum(e, -self.gate[k]), self.gate[k])
        return (torch.cat([position + speed + self.alpha[k] * e, speed + self.beta[k] * e], 1),)

    def record(self, states: States) -> Tensor:
        return states[0].narrow(1, 0, 8)


class RecursiveLeastSquares(Streaming):
    """RLS with forgetting f_k: g = P u / (f + uᵀP u), w += g (d - wᵀu), P = (P - g uᵀP) / f; u (batch, K, n)."""

    unit: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("unit", torch.eye(8))
        self.forget = nn.Parameter(0.9 + 0.09 * torch.rand(iterations, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        u, _ = inputs
        return u.new_zeros(u.shape[0], 8), 2 * self.unit.repeat(u.shape[0], 1, 1), u.new_zeros(u.shape[0])

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (w, P, _), (u, d) = states, inputs
        now = u.select(1, k)
        Pu = torch.bmm(P, now.unsqueeze(2)).squeeze(2)
        gain = Pu / (self.forget[k] + torch.einsum("bi,bi->b", now, Pu)[:, None])
        error = d[:, k] - torch.einsum("bi,bi->b", w, now)
        P = (P - gain[:, :, None] * Pu[:, None, :]) / self.forget[k]
        return w + gain * error[:, None], P, error

    def record(self, states: States) -> Tensor:
        return states[2]

    def finish(self, rows: list[Tensor], states: States) -> Answer:
        return states[0], torch.stack(rows, 1)


class NormalisedLms(Unrolled):
    """NLMS on a tapped delay line: u = (s_k, u_0, u_1, ...), e = d_k - wᵀu, w += m_k e u / (c + |u|²).

    The last errors stand in a shift register, a state of fixed size.
    """

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.rate = nn.Parameter(0.5 + 0.5 * torch.rand(iterations, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        zero = inputs[0].new_zeros(inputs[0].shape[0], 12)
        return zero, zero, zero[:, :4]

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (w, u, errors), (signal, d) = states, inputs
        u = functional.pad(u, (1, -1)) + functional.pad(signal[:, k : k + 1], (0, 11))
        e = d[:, k : k + 1] - (w * u).sum(1, keepdim=True)
        w = w + self.rate[k] * e * u / (0.125 + u.square().sum(1, keepdim=True))
        return w, u, torch.cat([errors[:, 1:], e], 1)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        return states[0], states[2]


class Diffusion(Streaming):
    """Adapt then combine over a network: agents step towards their measurement, then mix with their neighbours.

    y (batch, K, agents, d) comes new in each iteration, the mixing matrix (agents, agents) is shared by the batch.
    """

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.rate = nn.Parameter(0.3 + 0.3 * torch.rand(iterations, 6, 1, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        return (torch.zeros_like(inputs[0][:, 0]),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x,), (y, mixing) = states, inputs
        moved = x + self.rate[k] * (y[:, k] - x)
        ring = 0.25 * (torch.roll(moved, 1, 1) + torch.roll(moved, -1, 1) - 2 * moved)
        return (torch.einsum("ij,bjd->bid", torch.softmax(mixing, -1), moved) + 0.5 * ring,)

    def record(self, states: States) -> Tensor:
        return states[0].mean(1)

    def finish(self, rows: list[Tensor], states: States) -> Answer:
        return torch.stack(rows, -1), states[0]


class HiddenMarkov(Streaming):
    """Forward filter of a hidden Markov model: a+ = log softmax(logsumexp_i(a_i + log T_ij) + loglikelihood_k)."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.transition = nn.Parameter(torch.log_softmax(torch.randn(iterations, 9, 9, generator=generator), -1))

    def start(self, *inputs: Tensor) -> States:
        return (torch.zeros_like(inputs[0][:, 0]),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        ahead = torch.logsumexp(states[0].unsqueeze(2) + self.transition[k], dim=1)
        return (torch.log_softmax(ahead + inputs[0][:, k], dim=-1),)

    def record(self, states: States) -> Tensor:
        return states[0].exp()


class Viterbi(Streaming):
    """The likeliest path: best scores forward, the best predecessors recorded, the path read backwards at the end."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.transition = nn.Parameter(torch.randn(8, 8, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        first = torch.zeros_like(inputs[0][:, 0])
        return first, first.argmax(1, keepdim=True).expand(-1, 8)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        ahead = states[0].unsqueeze(2) + self.transition
        return torch.amax(ahead, 1) + inputs[0][:, k], torch.argmax(ahead, 1)

    def record(self, states: States) -> Tensor:
        return states[1]

    def finish(self, rows: list[Tensor], states: States) -> Answer:
        place = states[0].argmax(1, keepdim=True)
        path = [place]
        for row in reversed(rows[1:]):
            path.append(torch.gather(row, 1, path[-1]))
        best = states[0] - states[0].amax(1, keepdim=True)
        return best, torch.cat(path[::-1], 1).to(best.dtype)


class LearnedKalman(Streaming):
    """A filter whose gain comes from a GRU cell that sees the innovation: x = F x, x += G(h) (y_k - C x)."""

    F: Tensor
    C: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        basis, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator))
        self.register_buffer("F", 0.8 * basis)
        self.register_buffer("C", torch.randn(3, 8, generator=generator) / 3)
        self.cell = nn.GRUCell(3, 10)
        self.gain = nn.Linear(10, 24)
        for p in self.parameters():
            p.data.copy_(0.3 * torch.randn(p.shape, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        y = inputs[0]
        return y.new_zeros(y.shape[0], 8), y.new_zeros(y.shape[0], 10)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        x = functional.linear(states[0], self.F)
        innovation = inputs[0][:, k] - functional.linear(x, self.C)
        hidden = self.cell(innovation, states[1])
        gain = 0.25 * torch.tanh(self.gain(hidden)).view(-1, 8, 3)
        return x + torch.matmul(gain, innovation[..., None]).squeeze(-1), hidden


def _tracked(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return torch.randn(batch, 5, 2, generator=generator), torch.randn(batch, 2, 6, generator=generator)


def _wide(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.cumsum(torch.randn(batch, 5, 8, generator=generator), 1),)


def _regression(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return torch.randn(batch, 5, 8, generator=generator), torch.randn(batch, 5, generator=generator)


def _signal(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return torch.randn(batch, 5, generator=generator), torch.randn(batch, 5, generator=generator)


def _network(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return torch.randn(batch, 5, 6, 3, generator=generator), torch.randn(6, 6, generator=generator)


def _likelihoods(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 5, 9, generator=generator),)


def _scores(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 5, 8, generator=generator),)


def _sensors(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 5, 3, generator=generator),)


# Positions of the inputs with a slice for each iteration on axis 1: more iterations need longer ones.
_ONE, _TWO = {"stream": "0"}, {"stream": "0, 1"}
_FIELD = "filtering"
ENTRIES: tuple[Entry, ...] = (
    Entry("kalman", _FIELD, "Kalman 1960, sequential updates", Kalman, _tracked, runtime_matrix=True, notes=_ONE),
    Entry("alpha_beta", _FIELD, "alpha-beta tracker with a gate", AlphaBeta, _wide, notes=_ONE),
    Entry("recursive_least_squares", _FIELD, "RLS with forgetting", RecursiveLeastSquares, _regression, notes=_TWO),
    Entry("normalised_lms", _FIELD, "normalised LMS", NormalisedLms, _signal, notes=_TWO),
    Entry(
        "diffusion",
        _FIELD,
        "Cattivelli, Sayed 2010, adapt then combine",
        Diffusion,
        _network,
        shared_inputs=(1,),
        runtime_matrix=True,
        notes=_ONE,
    ),
    Entry("hidden_markov", _FIELD, "forward algorithm", HiddenMarkov, _likelihoods, notes=_ONE),
    Entry("viterbi", _FIELD, "Viterbi 1967", Viterbi, _scores, notes=_ONE),
    Entry("learned_kalman", _FIELD, "after Revach et al. 2022, KalmanNet", LearnedKalman, _sensors, notes=_ONE),
)
