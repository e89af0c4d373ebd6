"""Optimisers that are networks: recurrent cells, short sequences through recurrent layers, adaptive moments."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from solver_zoo.base import Answer, Entry, States, Unrolled

ROWS, COLUMNS = 10, 12


def _fill(module: nn.Module, generator: Generator, scale: float) -> None:
    for p in module.parameters():
        p.data.copy_(scale * torch.randn(p.shape, generator=generator))


def _gradient(x: Tensor, y: Tensor, A: Tensor) -> Tensor:
    """Aᵀ(A x - y) / |A|² with a matrix for each problem."""
    residual = torch.einsum("bmn,bn->bm", A, x) - y
    return torch.einsum("bmn,bm->bn", A, residual) / A.square().sum((1, 2)).unsqueeze(-1)


class LstmOptimiser(Unrolled):
    """One LSTM cell for all coordinates, fed with size and sign of the gradient; A (batch, m, n) at run time."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.cell = nn.LSTMCell(2, 5)
        self.readout = nn.Linear(5, 1)
        _fill(self, generator, 0.4)

    def start(self, *inputs: Tensor) -> States:
        y = inputs[0]
        hidden = y.new_zeros(y.shape[0] * COLUMNS, 5)
        return y.new_zeros(y.shape[0], COLUMNS), hidden, hidden

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        x, h, c = states
        g = _gradient(x, *inputs)
        features = torch.stack([torch.log(g.abs() + 2**-7) / 4, torch.tanh(10 * g)], -1).reshape(-1, 2)
        h, c = self.cell(features, (h, c))
        return x - 0.25 * g + 0.125 * self.readout(h).reshape(x.shape), h, c


class GruOptimiser(Unrolled):
    """One GRU cell for the whole vector, a linear read-out for each iteration."""

    A: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("A", torch.randn(ROWS, COLUMNS, generator=generator) / 4)
        self.cell = nn.GRUCell(COLUMNS + ROWS, 16)
        _fill(self.cell, generator, 0.2)
        self.readout = nn.Parameter(0.2 * torch.randn(iterations, 16, COLUMNS, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        y = inputs[0]
        return y.new_zeros(y.shape[0], COLUMNS), y.new_zeros(y.shape[0], 16)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, h), (y,) = states, inputs
        residual = y - functional.linear(x, self.A)
        h = self.cell(torch.cat([residual @ self.A, residual], -1), h)
        return torch.addmm(x, h, self.readout[k]), h


class HistoryGru(Unrolled):
    """A GRU layer reads the last four gradients, a shift register, and its last output gives the step."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.memory = nn.GRU(COLUMNS, 8, batch_first=True)
        self.readout = nn.Linear(8, COLUMNS)
        _fill(self, generator, 0.25)
        self.rate = nn.Parameter(0.5 + 0.5 * torch.rand(iterations, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        y = inputs[0]
        return y.new_zeros(y.shape[0], COLUMNS), y.new_zeros(y.shape[0], 4, COLUMNS)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        x, history = states
        history = torch.cat([history[:, 1:], _gradient(x, *inputs).unsqueeze(1)], 1)
        outputs, _ = self.memory(history)
        return x - self.rate[k] * history[:, -1] + 0.25 * self.readout(outputs[:, -1]), history


class SequenceLstm(Unrolled):
    """A signal as a sequence: a gradient step on a blur, then a bidirectional LSTM as denoiser; y (batch, 12)."""

    kernel: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("kernel", torch.softmax(torch.randn(1, 1, 3, generator=generator), -1))
        self.denoiser = nn.LSTM(1, 4, batch_first=True, bidirectional=True)
        _fill(self.denoiser, generator, 0.4)
        self.mix = nn.Parameter(0.2 * torch.randn(iterations, 8, 1, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        return (inputs[0],)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        x = states[0].unsqueeze(1)
        residual = functional.conv1d(x, self.kernel, padding=1) - inputs[0].unsqueeze(1)
        x = x - functional.conv_transpose1d(residual, self.kernel, padding=1)
        features, _ = self.denoiser(x.transpose(1, 2))
        return (x.squeeze(1) + (features @ self.mix[k]).squeeze(-1),)


class LearnedAdam(Unrolled):
    """Adam with rates per iteration, bias corrections as numbers of the code, and a small network on its features."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.network = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.SiLU(), nn.Linear(6, 1))
        _fill(self.network, generator, 0.3)
        self.rate = nn.Parameter(0.1 + 0.1 * torch.rand(iterations, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        y = inputs[0]
        zero = y.new_zeros(y.shape[0], COLUMNS)
        return zero, zero, zero

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        x, m, v = states
        g = _gradient(x, *inputs)
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        first, second = m / (1 - 0.8 ** (k + 1)), v / (1 - 0.95 ** (k + 1))
        direction = first / (torch.sqrt(second) + 0.1)
        features = torch.stack((g, direction, x), dim=-1)
        return x - self.rate[k] * (direction + 0.1 * self.network(features)[..., 0]), m, v

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        return states[0], states[2]


class AttentionOptimiser(Unrolled):
    """Coordinates attend to each other: multi-head attention over (value, gradient) features, then a step."""

    A: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("A", torch.randn(ROWS, COLUMNS, generator=generator) / 4)
        self.embed = nn.Parameter(0.5 * torch.randn(2, 8, generator=generator))
        self.project = nn.Parameter(0.3 * torch.randn(iterations, 8, 24, generator=generator))
        self.readout = nn.Parameter(0.3 * torch.randn(iterations, 8, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        return (inputs[0] @ self.A,)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x,) = states
        g = (x @ self.A.T - inputs[0]) @ self.A
        tokens = torch.stack([x, g], -1) @ self.embed
        parts = (tokens @ self.project[k]).reshape(-1, COLUMNS, 3, 2, 4).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        weights = torch.softmax(torch.einsum("bhid,bhjd->bhij", query, key) / 2, -1)
        mixed = torch.einsum("bhij,bhjd->bihd", weights, value).flatten(2)
        return (x - 0.25 * g + torch.einsum("bie,e->bi", tokens + mixed, self.readout[k]) / 4,)


def _problem(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return torch.randn(batch, ROWS, generator=generator), torch.randn(batch, ROWS, COLUMNS, generator=generator)


def _vector(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, ROWS, generator=generator),)


def _series(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, COLUMNS, generator=generator),)


_FIELD = "learned optimisers"
ENTRIES: tuple[Entry, ...] = (
    Entry(
        "lstm_optimiser",
        _FIELD,
        "Andrychowicz et al. 2016",
        LstmOptimiser,
        _problem,
        runtime_matrix=True,
        dynamic=False,
        notes={"batch": "the cell sees the coordinates of all problems on one axis"},
    ),
    Entry("gru_optimiser", _FIELD, "Putzky, Welling 2017, recurrent inference", GruOptimiser, _vector),
    Entry("history_gru", _FIELD, "a GRU layer over past gradients", HistoryGru, _problem, runtime_matrix=True),
    Entry("sequence_lstm", _FIELD, "a bidirectional LSTM layer as denoiser", SequenceLstm, _series),
    Entry(
        "learned_adam",
        _FIELD,
        "Kingma, Ba 2015 with a network",
        LearnedAdam,
        _problem,
        runtime_matrix=True,
        tolerance64=1e-6,
        notes={"float64": "torch.onnx writes the numbers of the code in float32; export_onnx keeps all digits"},
    ),
    Entry("attention_optimiser", _FIELD, "Vaswani et al. 2017 as update rule", AttentionOptimiser, _vector),
)
