"""Message passing: approximate message passing and its kin, belief propagation on codes and fields, expectation
propagation."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from solver_zoo.base import Answer, Entry, States, Unrolled

ROWS, COLUMNS = 16, 24
BITS, CHECKS, ROW_WEIGHT = 16, 8, 6


class Amp(Unrolled):
    """AMP: x+ = soft(x + Aᵀz, a_k |z| / sqrt m), z+ = y - A x+ + z (n/m) mean(x+ != 0); y (batch, m)."""

    A: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("A", torch.randn(ROWS, COLUMNS, generator=generator) / math.sqrt(ROWS))
        self.alpha = nn.Parameter(1.2 + 0.3 * torch.rand(iterations, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        (y,) = inputs
        return y.new_zeros(y.shape[0], COLUMNS), y

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, z), (y,) = states, inputs
        level = self.alpha[k] * z.square().mean(1, keepdim=True).sqrt()
        r = x + z @ self.A
        x = torch.sign(r) * torch.clamp(r.abs() - level, min=0)
        onsager = (x != 0).to(y.dtype).sum(1, keepdim=True) / ROWS
        return x, y - functional.linear(x, self.A) + onsager * z


class Lamp(Unrolled):
    """Learned AMP, untied B_k, with the smooth shrinkage r (a + b exp(-r² / 2 c² s²)) and its divergence."""

    A: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        A = torch.randn(ROWS, COLUMNS, generator=generator) / math.sqrt(ROWS)
        noise = torch.randn(iterations, COLUMNS, ROWS, generator=generator)
        self.register_buffer("A", A)
        self.B = nn.Parameter(A.T + 0.05 * noise)
        shape = torch.tensor([0.8, -0.7, 1.2])
        self.theta = nn.Parameter(shape + 0.05 * torch.randn(iterations, 3, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        (y,) = inputs
        return y.new_zeros(y.shape[0], COLUMNS), y

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, v), (y,) = states, inputs
        a, b, c = self.theta[k].unbind()
        r = x + torch.einsum("nm,bm->bn", self.B[k], v)
        ratio = r.square() / (c * c * (v.square().mean(1, keepdim=True) + 1e-6))
        bump = b * torch.exp(-0.5 * ratio)
        x = r * (a + bump)
        divergence = torch.mean(a + bump * (1 - ratio), dim=1, keepdim=True)
        return x, y - torch.einsum("mn,bn->bm", self.A, x) + (COLUMNS / ROWS) * divergence * v


class Vamp(Unrolled):
    """Vector AMP: a spike-and-slab denoiser and a linear estimator in the basis of the singular vectors take turns."""

    left: Tensor
    right: Tensor
    values: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        U, s, Vt = torch.linalg.svd(torch.randn(ROWS, COLUMNS, generator=generator) / math.sqrt(ROWS))
        self.register_buffer("left", U)
        self.register_buffer("right", Vt)
        self.register_buffer("values", functional.pad(s, (0, COLUMNS - ROWS)))
        self.log_odds = nn.Parameter(-1.2 + 0.1 * torch.randn(iterations, generator=generator))
        self.damping = nn.Parameter(0.6 + 0.2 * torch.rand(iterations, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        (y,) = inputs
        projected = functional.pad(y @ self.left, (0, COLUMNS - ROWS)) * self.values
        return projected @ self.right, y.new_ones(y.shape[0], 1)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (r, precision), (y,) = states, inputs
        wide, narrow = 1 / (1 + 1 / precision), precision
        slope = narrow - wide
        slab = torch.sigmoid(self.log_odds[k] + 0.5 * torch.log(wide / narrow) + 0.5 * r.square() * slope)
        gain = 1 / (1 + 1 / precision)
        x = gain * slab * r
        alpha = (gain * slab * (1 + (1 - slab) * slope * r.square())).mean(1, keepdim=True).clamp(0.125, 0.875)
        second = (x - alpha * r) / (1 - alpha)
        back = precision * (1 - alpha) / alpha
        noise = 16.0
        total = noise * self.values.square() + back
        data = functional.pad(y @ self.left, (0, COLUMNS - ROWS)) * self.values
        linear = ((noise * data + back * (second @ self.right.T)) / total) @ self.right
        beta = (back / total).mean(1, keepdim=True).clamp(0.125, 0.875)
        rho = self.damping[k]
        r = (1 - rho) * r + rho * (linear - beta * second) / (1 - beta)
        precision = (1 - rho) * precision + rho * (back * (1 - beta) / beta).clamp(0.0625, 16.0)
        return r, precision

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        return states


class _Decoder(Unrolled):
    """A regular parity-check code as a table (checks, row weight) of the bits of each check; inputs (batch, bits)."""

    table: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        copies = [torch.randperm(BITS, generator=generator) for _ in range(CHECKS * ROW_WEIGHT // BITS)]
        self.register_buffer("table", torch.cat(copies).reshape(CHECKS, ROW_WEIGHT))

    def start(self, *inputs: Tensor) -> States:
        (llr,) = inputs
        return (llr.new_zeros(llr.shape[0], CHECKS, ROW_WEIGHT),)


class MinSum(_Decoder):
    """Offset min-sum decoding: a check's message is the product of the other signs times their least magnitude."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations, generator)
        self.scale = nn.Parameter(0.7 + 0.2 * torch.rand(iterations, CHECKS, 1, generator=generator))
        self.offset = nn.Parameter(0.1 * torch.rand(iterations, generator=generator))

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (c,), (llr,) = states, inputs
        total = llr.index_add(1, self.table.flatten(), c.flatten(1))
        v = total.index_select(1, self.table.flatten()).reshape(-1, CHECKS, ROW_WEIGHT) - c
        least = torch.topk(v.abs(), 2, dim=-1, largest=False).values
        others = torch.where(v.abs() <= least[..., :1], least[..., 1:], least[..., :1])
        signs = torch.where(v < 0, -1.0, 1.0).to(v.dtype)
        message = signs.prod(-1, keepdim=True) * signs * torch.relu(others - self.offset[k])
        return (torch.clamp(self.scale[k] * message, -12.0, 12.0),)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        (c,), (llr,) = states, inputs
        total = llr.index_add(1, self.table.flatten(), c.flatten(1))
        return total, (total < 0).to(llr.dtype)


class SumProduct(_Decoder):
    """Sum-product decoding, 2 atanh(prod tanh(v / 2)), the products over all others from running sums of logarithms."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations, generator)
        self.weight = nn.Parameter(0.6 + 0.3 * torch.rand(iterations, CHECKS, ROW_WEIGHT, generator=generator))

    def _posterior(self, c: Tensor, llr: Tensor) -> Tensor:
        where = self.table.reshape(1, -1).expand(llr.shape[0], -1)
        return llr.scatter_add(1, where, c.flatten(1))

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (c,), (llr,) = states, inputs
        where = self.table.reshape(1, -1).expand(llr.shape[0], -1)
        v = torch.gather(self._posterior(c, llr), 1, where).reshape(c.shape) - c
        t = torch.tanh(0.5 * v)
        logs = torch.log(t.abs() + 2**-13)
        before = torch.cumsum(logs, -1) - logs
        after = torch.cumsum(logs.flip(-1), -1).flip(-1) - logs
        odd = (v < 0).to(v.dtype).sum(-1, keepdim=True)
        sign = torch.cos(math.pi * (odd - (v < 0).to(v.dtype)))
        product = torch.clamp(sign * torch.exp(before + after), -0.984375, 0.984375)
        return (self.weight[k] * torch.log((1 + product) / (1 - product)),)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        return self._posterior(states[0], inputs[0])


class GaussianBelief(Unrolled):
    """Gaussian belief propagation for (D + W) x = b, W (batch, n, n) at run time, D = 1 + its rows' absolute sums."""

    off: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("off", 1 - torch.eye(10))
        self.damping = nn.Parameter(0.7 + 0.2 * torch.rand(iterations, generator=generator))

    def _system(self, W: Tensor) -> tuple[Tensor, Tensor]:
        coupling = 0.5 * (W + W.mT) * self.off
        return coupling, 1 + coupling.abs().sum(2)

    def start(self, *inputs: Tensor) -> States:
        return torch.zeros_like(inputs[1]), torch.zeros_like(inputs[1])

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (precision, mean), (b, W) = states, inputs
        coupling, diagonal = self._system(W)
        # Entry (i, j) is the message from i to j; what i sends to j leaves out what j told i.
        kept = (diagonal + precision.sum(1)).unsqueeze(2) - precision.transpose(1, 2)
        inner = ((b + mean.sum(1)).unsqueeze(2) - mean.transpose(1, 2)) / kept
        rho = self.damping[k]
        precision = torch.lerp(precision, -coupling.square() / kept, rho)
        return precision, torch.lerp(mean, -coupling * inner, rho)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        (precision, mean), (b, W) = states, inputs
        total = self._system(W)[1] + precision.sum(1)
        return (b + mean.sum(1)) / total, 1 / total


class ExpectationPropagation(Unrolled):
    """EP for the probit classifier with diagonal sites: labels (batch, m), features (batch, m, n) at run time."""

    roots: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("roots", torch.tensor([2.0, 2 * math.pi]).sqrt())
        self.damping = nn.Parameter(0.4 + 0.2 * torch.rand(iterations, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        return torch.zeros_like(inputs[1]), torch.zeros_like(inputs[1])

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (lam, eta), (labels, X) = states, inputs
        a = labels.unsqueeze(-1) * X
        cavity = 1 / (1 + lam.sum(1, keepdim=True) - lam).clamp(min=0.25)
        middle = cavity * (eta.sum(1, keepdim=True) - eta)
        spread = 1 + torch.einsum("bmn,bmn,bmn->bm", a, a, cavity)
        z = torch.clamp(torch.einsum("bij,bij->bi", a, middle) / spread.sqrt(), -4.0, 4.0)
        mass = 0.5 * (1 + torch.erf(z / self.roots[0]))
        ratio = torch.exp(-0.5 * z * z) / (self.roots[1] * mass)
        mean = middle + cavity * a * (ratio / spread.sqrt()).unsqueeze(-1)
        shrink = (ratio * (z + ratio) / spread).unsqueeze(-1) * (a * cavity).square()
        variance = torch.maximum(cavity - shrink, 0.0625 * cavity)
        rho = self.damping[k]
        lam = (1 - rho) * lam + rho * (1 / variance - 1 / cavity)
        return lam, (1 - rho) * eta + rho * (mean / variance - middle / cavity)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        precision = 1 + states[0].sum(1)
        return states[1].sum(1) / precision, 1 / precision


def _measurements(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, ROWS, generator=generator),)


def _codeword(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return (2.0 + 1.5 * torch.randn(batch, BITS, generator=generator),)


def _system(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return torch.randn(batch, 10, generator=generator), torch.randn(batch, 10, 10, generator=generator)


def _examples(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    labels = torch.where(torch.rand(batch, 8, generator=generator) < 0.5, -1.0, 1.0)
    return labels, torch.randn(batch, 8, 8, generator=generator)


_FIELD = "message passing"
ENTRIES: tuple[Entry, ...] = (
    Entry("amp", _FIELD, "Donoho, Maleki, Montanari 2009", Amp, _measurements),
    Entry("lamp", _FIELD, "Borgerding, Schniter, Rangan 2017", Lamp, _measurements),
    Entry("vamp", _FIELD, "Rangan, Schniter, Fletcher 2019", Vamp, _measurements),
    Entry("min_sum", _FIELD, "Nachmani et al. 2018, neural offset min-sum", MinSum, _codeword),
    Entry("sum_product", _FIELD, "Nachmani et al. 2016, weighted sum-product", SumProduct, _codeword, tolerance=1e-4),
    Entry("gaussian_belief", _FIELD, "Weiss, Freeman 2001", GaussianBelief, _system, runtime_matrix=True),
    Entry("expectation_propagation", _FIELD, "Minka 2001", ExpectationPropagation, _examples, runtime_matrix=True),
)
