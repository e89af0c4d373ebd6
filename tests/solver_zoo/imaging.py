"""Imaging: convolutional sparse coding, learned denoisers, total variation, deconvolution; images (batch, c, 8, 8)."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from solver_zoo.base import Answer, Entry, States, Unrolled

SIZE = 8


def _fill(module: nn.Module, generator: Generator, scale: float) -> None:
    """Random parameters and running statistics; variances stay positive."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.data.copy_(0.5 + noise.abs() if name.endswith("running_var") else scale * noise)


def _blur(generator: Generator, channels: int, size: int) -> Tensor:
    """Positive kernels (channels, 1, size, size) of sum one."""
    return torch.softmax(torch.randn(channels, size * size, generator=generator), 1).reshape(-1, 1, size, size)


class ConvolutionalIsta(Unrolled):
    """Convolutional LISTA: z = soft(z + W_k * (y - D z), t_k), D a strided transposed convolution."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        atoms = torch.randn(6, 1, 5, 5, generator=generator) / 5
        noise = torch.randn(iterations, 6, 1, 5, 5, generator=generator)
        self.analysis = nn.Parameter(0.25 * atoms + 0.005 * noise)
        self.synthesis = nn.Parameter(atoms)
        self.threshold = nn.Parameter(0.05 + 0.05 * torch.rand(iterations, 6, 1, 1, generator=generator))

    def _image(self, z: Tensor) -> Tensor:
        return functional.conv_transpose2d(z, self.synthesis, stride=2, padding=2, output_padding=1)

    def start(self, *inputs: Tensor) -> States:
        return (inputs[0].new_zeros(inputs[0].shape[0], 6, SIZE // 2, SIZE // 2),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        residual = inputs[0] - self._image(states[0])
        z = states[0] + functional.conv2d(residual, self.analysis[k], stride=2, padding=2)
        return (torch.relu(z - self.threshold[k]) - torch.relu(-z - self.threshold[k]),)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        return self._image(states[0]), states[0]


class PlugAndPlay(Unrolled):
    """Proximal gradient with a residual denoiser (convolution, batch norm, group norm); depthwise blur, reflected."""

    kernel: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.denoiser = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=2),
            nn.GroupNorm(3, 6),
            nn.ReLU(),
            nn.Conv2d(6, 3, 3, padding=1, padding_mode="replicate"),
        )
        _fill(self.denoiser, generator, 0.25)
        self.register_buffer("kernel", _blur(generator, 3, 3))
        self.rate = nn.Parameter(0.5 + 0.5 * torch.rand(iterations, 1, 3, 1, 1, generator=generator))
        self.eval()

    def start(self, *inputs: Tensor) -> States:
        return (inputs[0],)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x,) = states
        blurred = functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), self.kernel, groups=3)
        back = functional.conv2d(functional.pad(blurred - inputs[0], (1, 1, 1, 1)), self.kernel.flip(2, 3), groups=3)
        x = x - self.rate[k] * back
        return (x - 0.25 * self.denoiser(x),)


class TotalVariation(Unrolled):
    """Chambolle's dual method in two dimensions: p = (p + t_k g) / (1 + t_k |g|), g = grad(div p - y / l)."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.rate = nn.Parameter(0.1 + 0.14 * torch.rand(iterations, generator=generator))
        self.strength = nn.Parameter(0.3 + 0.3 * torch.rand(1, generator=generator))

    @staticmethod
    def _divergence(p: Tensor) -> Tensor:
        down, right = p[:, 0], p[:, 1]
        down = functional.pad(down[:, :-1], (0, 0, 0, 1)) - functional.pad(down[:, :-1], (0, 0, 1, 0))
        return down + functional.pad(right[..., :-1], (0, 1)) - functional.pad(right[..., :-1], (1, 0))

    def start(self, *inputs: Tensor) -> States:
        y = inputs[0]
        return (y.new_zeros(y.shape[0], 2, SIZE, SIZE),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (p,) = states
        u = self._divergence(p) - inputs[0] / self.strength
        below = functional.pad(u.unsqueeze(1), (0, 0, 0, 1), mode="replicate").squeeze(1)[:, 1:]
        beside = functional.pad(u.unsqueeze(1), (0, 1, 0, 0), mode="replicate").squeeze(1)[..., 1:]
        g = torch.stack([below - u, beside - u], 1)
        length = torch.linalg.vector_norm(g, dim=1, keepdim=True)
        return ((p + self.rate[k] * g) / (1 + self.rate[k] * length),)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        return inputs[0] - self.strength * self._divergence(states[0])


class PeriodicTotalVariation(Unrolled):
    """Split Bregman steps on periodic images: differences by rolling and circular padding, one Jacobi sweep for x."""

    kernel: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        cross = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
        self.register_buffer("kernel", cross.reshape(1, 1, 3, 3).repeat(2, 1, 1, 1))
        self.weight = nn.Parameter(0.5 + 0.5 * torch.rand(iterations, generator=generator))
        self.threshold = nn.Parameter(0.2 + 0.2 * torch.rand(iterations, 2, 1, 1, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        zero = torch.zeros_like(inputs[0])
        return inputs[0], zero, zero, zero, zero

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        x, d1, d2, b1, b2 = states
        mu, t = self.weight[k], self.threshold[k]
        e1, e2 = d1 - b1, d2 - b2
        spread = torch.roll(e1, 1, 2) - e1 + torch.roll(e2, 1, 3) - e2
        neighbours = functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="circular"), self.kernel, groups=2)
        x = (mu * inputs[0] + neighbours + spread) / (mu + 4)
        g1, g2 = torch.roll(x, -1, 2) - x, torch.roll(x, -1, 3) - x
        d1 = (g1 + b1) - torch.clamp(g1 + b1, min=-t, max=t)
        d2 = (g2 + b2) - torch.clamp(g2 + b2, min=-t, max=t)
        return x, d1, d2, b1 + g1 - d1, b2 + g2 - d2


class FourierSplitting(Unrolled):
    """Half-quadratic splitting, deconvolution by torch.fft: X = (conj H Y + r_k Z) / (|H|² + r_k), pairs of reals."""

    spectrum: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        kernel = functional.pad(_blur(generator, 1, 3)[0, 0], (0, SIZE - 3, 0, SIZE - 3))
        self.register_buffer("spectrum", torch.view_as_real(torch.fft.rfft2(kernel)))
        self.rho = nn.Parameter(0.2 + 0.3 * torch.rand(iterations, generator=generator))
        self.threshold = nn.Parameter(0.05 + 0.1 * torch.rand(iterations, generator=generator))

    def start(self, *inputs: Tensor) -> States:
        return (inputs[0],)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        h, g = self.spectrum.unbind(-1)
        a, b = torch.view_as_real(torch.fft.rfft2(inputs[0])).unbind(-1)
        c, d = torch.view_as_real(torch.fft.rfft2(states[0])).unbind(-1)
        rho = self.rho[k]
        power = h * h + g * g + rho
        pair = torch.stack([(h * a + g * b + rho * c) / power, (h * b - g * a + rho * d) / power], -1)
        x = torch.fft.irfft2(torch.view_as_complex(pair), s=(SIZE, SIZE))
        return (x * torch.tanh(x.abs() / self.threshold[k]),)


class FourierAdmm(Unrolled):
    """ADMM deconvolution in a box, the Fourier transform written as two real matrices; y (batch, 8, 8)."""

    cosine: Tensor
    sine: Tensor
    response: Tensor

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        turn = 2 * math.pi * torch.outer(torch.arange(SIZE), torch.arange(SIZE)) / SIZE
        self.register_buffer("cosine", torch.cos(turn) / math.sqrt(SIZE))
        self.register_buffer("sine", torch.sin(turn) / math.sqrt(SIZE))
        kernel = functional.pad(_blur(generator, 1, 3)[0, 0], (0, SIZE - 3, 0, SIZE - 3))
        self.register_buffer("response", torch.view_as_real(torch.fft.fft2(kernel)).permute(2, 0, 1).contiguous())
        self.rho = nn.Parameter(0.3 + 0.3 * torch.rand(iterations, generator=generator))

    def _transform(self, real: Tensor, imaginary: Tensor, sign: float) -> tuple[Tensor, Tensor]:
        C, S = self.cosine, -sign * self.sine
        for _ in range(2):
            real, imaginary = (C @ real - S @ imaginary).mT, (C @ imaginary + S @ real).mT
        return real, imaginary

    def start(self, *inputs: Tensor) -> States:
        return inputs[0], torch.zeros_like(inputs[0])

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (z, u), (y,) = states, inputs
        h, g = self.response[0], self.response[1]
        a, b = self._transform(y, torch.zeros_like(y), 1.0)
        c, d = self._transform(z - u, torch.zeros_like(z), 1.0)
        power = h * h + g * g + self.rho[k]
        real, imaginary = (h * a + g * b + self.rho[k] * c) / power, (h * b - g * a + self.rho[k] * d) / power
        x, _ = self._transform(real, imaginary, -1.0)
        z = torch.clamp(x + u, -1.0, 1.0)
        return z, u + x - z


class RichardsonLucy(Unrolled):
    """Richardson-Lucy with a kernel per problem at run time, as patches: y (batch, 1, 8, 8), kernel (batch, 3, 3)."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.power = nn.Parameter(0.8 + 0.3 * torch.rand(iterations, generator=generator))

    @staticmethod
    def _filtered(x: Tensor, kernel: Tensor) -> Tensor:
        patches = functional.unfold(functional.pad(x, (1, 1, 1, 1), mode="constant", value=0.125), 3)
        return torch.einsum("bpq,bp->bq", patches, kernel.flatten(1)).reshape(x.shape)

    def start(self, *inputs: Tensor) -> States:
        return (torch.ones_like(inputs[0]),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        y, kernel = inputs
        kernel = kernel.abs() / kernel.abs().sum((1, 2), keepdim=True)
        ratio = y / (self._filtered(states[0], kernel) + 0.125)
        return (states[0] * self._filtered(ratio, kernel.flip((1, 2))).abs().pow(self.power[k]),)


class SuperResolution(Unrolled):
    """Iterative back projection: average pooling down, bilinear up, a prior of its own in each iteration."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        # A dictionary: a second ModuleList would compete with `layers` for being the list of the iterations.
        self.priors = nn.ModuleDict({f"prior{k}": self._prior() for k in range(iterations)})
        _fill(self.priors, generator, 0.2)

    @staticmethod
    def _prior() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1, padding_mode="circular"),
            nn.InstanceNorm2d(8, affine=True),
            nn.LeakyReLU(0.125),
            nn.PixelShuffle(2),
            nn.LayerNorm([2 * SIZE, 2 * SIZE]),
            nn.Conv2d(2, 2, 4, stride=2, padding=1),
            nn.Hardtanh(),
        )

    def start(self, *inputs: Tensor) -> States:
        return (functional.interpolate(inputs[0], scale_factor=2, mode="nearest"),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        error = inputs[0] - functional.avg_pool2d(states[0], 2)
        x = states[0] + functional.interpolate(error, scale_factor=2, mode="bilinear", align_corners=False)
        return (x + self.priors[f"prior{k}"](x),)


class TraceDeconvolution(Unrolled):
    """Sparse spikes from traces, one-dimensional: causal, dilated and grouped convolutions; y (batch, 2, 24)."""

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)
        self.wavelet = nn.Parameter(0.3 * torch.randn(2, 1, 4, generator=generator))
        self.filters = nn.Parameter(0.03 * torch.randn(iterations, 2, 2, 3, generator=generator))
        self.threshold = nn.Parameter(0.05 + 0.1 * torch.rand(iterations, 1, 2, 1, generator=generator))
        self.momentum = nn.Parameter(torch.arange(iterations) / (torch.arange(iterations) + 3))

    def start(self, *inputs: Tensor) -> States:
        return torch.zeros_like(inputs[0]), torch.zeros_like(inputs[0])

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        x, previous = states
        v = x + self.momentum[k] * (x - previous)
        residual = inputs[0] - functional.conv1d(functional.pad(v, (3, 0)), self.wavelet, groups=2)
        back = functional.conv_transpose1d(residual, self.wavelet, groups=2)[..., 3:]
        v = v + 0.375 * back + functional.conv1d(residual, self.filters[k], padding="same", dilation=2)
        return functional.hardshrink(v, 2**-6) * (v.abs() / (v.abs() + self.threshold[k])), x

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        return states[0]


def _gray(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 1, SIZE, SIZE, generator=generator),)


def _two(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 2, SIZE, SIZE, generator=generator),)


def _colour(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.rand(batch, 3, SIZE, SIZE, generator=generator),)


def _plane(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, SIZE, SIZE, generator=generator),)


def _photons(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return 0.5 + torch.rand(batch, 1, SIZE, SIZE, generator=generator), torch.rand(batch, 3, 3, generator=generator)


def _coarse(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 2, SIZE // 2, SIZE // 2, generator=generator),)


def _traces(generator: Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 2, 24, generator=generator),)


_FIELD = "imaging"
ENTRIES: tuple[Entry, ...] = (
    Entry("convolutional_ista", _FIELD, "Sreter, Giryes 2018", ConvolutionalIsta, _gray),
    Entry("plug_and_play", _FIELD, "Venkatakrishnan et al. 2013, proximal gradient", PlugAndPlay, _colour),
    Entry("total_variation", _FIELD, "Chambolle 2004", TotalVariation, _plane),
    Entry("periodic_total_variation", _FIELD, "Goldstein, Osher 2009", PeriodicTotalVariation, _two),
    Entry("fourier_splitting", _FIELD, "Geman, Yang 1995, half-quadratic splitting", FourierSplitting, _gray),
    Entry("fourier_admm", _FIELD, "Boyd et al. 2011, deconvolution", FourierAdmm, _plane),
    Entry("richardson_lucy", _FIELD, "Richardson 1972, Lucy 1974", RichardsonLucy, _photons, runtime_matrix=True),
    Entry("super_resolution", _FIELD, "Irani, Peleg 1991 with learned priors", SuperResolution, _coarse),
    Entry(
        "trace_deconvolution", _FIELD, "Beck, Teboulle 2009 with a learned firm threshold", TraceDeconvolution, _traces
    ),
)
