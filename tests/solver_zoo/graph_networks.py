"""Solvers on graphs: the graph at run time as a matrix, or fixed as a list of edges."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from solver_zoo.base import Answer, Entry, States, Unrolled

NODES, EDGES, WIDTH = 10, 24, 4


def _edges(generator: Generator) -> tuple[Tensor, Tensor]:
    """Sources and targets of the edges: a ring, and random ones."""
    ring = torch.arange(NODES)
    more = torch.randint(NODES, (2, EDGES - NODES), generator=generator)
    return torch.cat([ring, more[0]]), torch.cat([(ring + 1) % NODES, more[1]])


class GraphIsta(Unrolled):
    """Sparse signals on a graph given at run time: x = soft(x + a_k (y - S x) + S² mixing, t_k); W (batch, n, n)."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.taps = nn.Parameter(0.2 * torch.randn(iterations, 3, generator=generator))
        self.rate = nn.Parameter(0.5 + 0.3 * torch.rand(iterations, generator=generator))
        self.threshold = nn.Parameter(0.1 * torch.rand(iterations, NODES, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        y, W = inputs
        weights = torch.relu(W + W.transpose(1, 2))
        root = torch.rsqrt(weights.sum(-1) + 1)
        return torch.zeros_like(y), torch.einsum("bi,bij,bj->bij", root, weights, root)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, shift), (y, _) = states, inputs
        once = torch.einsum("bij,bj->bi", shift, x)
        twice = torch.matmul(shift, once.unsqueeze(-1)).squeeze(-1)
        filtered = torch.stack([x, once, twice], -1) @ self.taps[k]
        x = x + self.rate[k] * (y - x) + filtered
        return torch.sign(x) * torch.maximum(x.abs() - self.threshold[k], torch.zeros_like(x)), shift


class GraphAttention(Unrolled):
    """Graph attention with a mask at run time: e_ij = leaky(a·h_i + b·h_j), softmax over neighbours, then elu."""

    unit: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("unit", torch.eye(NODES))
        self.embed = nn.Parameter(0.5 * torch.randn(iterations, WIDTH, WIDTH, generator=generator))
        self.ends = nn.Parameter(torch.randn(iterations, WIDTH, 2, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        return (inputs[0],)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        h = states[0] @ self.embed[k]
        ours, theirs = torch.split(h @ self.ends[k], 1, dim=-1)
        scores = functional.leaky_relu(ours + theirs.mT, 0.25)
        linked = (inputs[1] + self.unit) > 0.5
        weights = torch.softmax(scores.masked_fill(~linked, -1e9), -1)
        return (inputs[0] + functional.elu(torch.bmm(weights, h)),)


class GraphDiffusion(Unrolled):
    """Personalised diffusion over a fixed list of edges, x = (1 - a_k) M x + a_k y, sums by index_add."""

    sources: Tensor
    targets: Tensor
    weights: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        sources, targets = _edges(generator)
        weights = torch.rand(EDGES, generator=generator)
        self.register_buffer("sources", sources)
        self.register_buffer("targets", targets)
        self.register_buffer("weights", weights / torch.zeros(NODES).index_add(0, targets, weights)[targets])
        self.restart = nn.Parameter(0.1 + 0.2 * torch.rand(iterations, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        return (inputs[0],)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        sent = states[0].index_select(1, self.sources) * self.weights.unsqueeze(-1)
        received = torch.zeros_like(states[0]).index_add(1, self.targets, sent)
        return (torch.lerp(received, inputs[0], self.restart[k]),)


class GatedGraph(Unrolled):
    """A gated graph network: the greatest message of each node's neighbours goes into a GRU cell; edges are fixed."""

    sources: Tensor
    targets: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        sources, targets = _edges(generator)
        self.register_buffer("sources", sources)
        self.register_buffer("targets", targets.reshape(1, EDGES, 1))
        self.message = nn.Parameter(0.5 * torch.randn(iterations, 2 * WIDTH, WIDTH, generator=generator))
        self.cell = nn.GRUCell(WIDTH, WIDTH)
        for p in self.cell.parameters():
            p.data.copy_(0.4 * torch.randn(p.shape, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        return (torch.tanh(inputs[0]),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (h,) = states
        pairs = torch.cat([h[:, self.sources], h[:, self.targets.flatten()]], -1)
        messages = torch.tanh(pairs @ self.message[k])
        where = self.targets.expand(h.shape[0], EDGES, WIDTH)
        greatest = (-torch.ones_like(h)).scatter_reduce(1, where, messages, "amax")
        return (self.cell(greatest.flatten(0, 1), h.flatten(0, 1)).view_as(h),)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        return states[0], torch.log_softmax(states[0], -1)


class UnfoldedWmmse(Unrolled):
    """WMMSE for single antennas whose weights pass through a graph network on the channel H (batch, n, n)."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.first = nn.Parameter(0.4 * torch.randn(iterations, 2, WIDTH, generator=generator))
        self.second = nn.Parameter(0.4 * torch.randn(iterations, 2, WIDTH, generator=generator))

    @staticmethod
    def _network(w: Tensor, H: Tensor, taps: Tensor) -> Tensor:
        own = torch.einsum("bii->bi", H)
        around = torch.einsum("bij,bj->bi", H, w) - own * w
        hidden = own.unsqueeze(-1) * taps[0] + functional.softplus(around, beta=2).unsqueeze(-1) * taps[1]
        return torch.sigmoid(torch.tanh(hidden).mean(-1))

    def start(self, *inputs: Tensor) -> States:
        return (torch.ones_like(inputs[0]),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (v,), (power, channel) = states, inputs
        H = channel.abs()
        own = torch.diagonal(H, dim1=1, dim2=2)
        received = torch.einsum("bij,bj->bi", H.square(), v.square()) + 0.5
        u = own * v / received
        w = 1 / torch.clamp(1 - u * own * v, min=0.0625)
        w = (0.5 + self._network(w, H, self.first[k])) * w + self._network(w, H, self.second[k])
        weighted = torch.einsum("bji,bj->bi", H.square(), u.square() * w) + 2**-7
        limit = torch.sqrt(power.abs())
        return (torch.minimum(torch.relu(u * own * w / weighted), limit),)


def _signals(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return torch.randn(batch, NODES, generator=generator), torch.randn(batch, NODES, NODES, generator=generator)


def _features(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    links = torch.rand(batch, NODES, NODES, generator=generator)
    return torch.randn(batch, NODES, WIDTH, generator=generator), (links < 0.3).float()


def _nodes(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, NODES, WIDTH, generator=generator),)


def _channel(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    gains = torch.randn(batch, NODES, NODES, generator=generator) / math.sqrt(NODES) + torch.eye(NODES)
    return 1 + torch.rand(batch, NODES, generator=generator), gains


_FIELD = "graph networks"
ENTRIES: tuple[Entry, ...] = (
    Entry("graph_ista", _FIELD, "Chen et al. 2021, graph unrolling", GraphIsta, _signals, runtime_matrix=True),
    Entry("graph_attention", _FIELD, "Velickovic et al. 2018", GraphAttention, _features, runtime_matrix=True),
    Entry("graph_diffusion", _FIELD, "Gasteiger et al. 2019, personalised propagation", GraphDiffusion, _nodes),
    Entry(
        "gated_graph",
        _FIELD,
        "Li et al. 2016",
        GatedGraph,
        _nodes,
        dynamic=False,
        notes={"batch": "the cell sees the nodes of all problems on one axis"},
    ),
    Entry("unfolded_wmmse", _FIELD, "Chowdhury et al. 2021", UnfoldedWmmse, _channel, runtime_matrix=True),
)
