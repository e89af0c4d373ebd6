"""Imaging: differences, convolutions and a small convolutional denoiser."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from speed_cases.base import Graph, States, Tensors, Unrolled, normal, soft


class TotalVariation(Unrolled):
    """min over x of ‖x - y‖²/2 + theta Σ|∇x|₂ by Chambolle and Pock's method; y (batch, h, w), zero beyond the edge."""

    theta, tau, sigma = 0.2, 0.25, 0.5

    def __init__(self, iterations: int, generator: Generator) -> None:
        super().__init__(iterations)

    def start(self, *inputs: Tensor) -> States:
        y = inputs[0]
        return y, y, torch.zeros_like(y), torch.zeros_like(y)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (x, extrapolated, p, q), y = states, inputs[0]
        p = p + self.sigma * functional.pad(extrapolated[:, 1:] - extrapolated[:, :-1], (0, 0, 0, 1))
        q = q + self.sigma * functional.pad(extrapolated[:, :, 1:] - extrapolated[:, :, :-1], (0, 1))
        scale = 1 / torch.clamp(torch.sqrt(p * p + q * q) / self.theta, min=1.0)
        p, q = p * scale, q * scale
        divergence = p - functional.pad(p[:, :-1], (0, 0, 1, 0)) + q - functional.pad(q[:, :, :-1], (1, 0))
        new = (x + self.tau * (divergence + y)) / (1 + self.tau)
        return new, 2 * new - x, p, q


class ConvolutionalIsta(Unrolled):
    """z ← soft(z - mu D*(D z - y), theta_k) with D from `maps` feature maps to an image, 5×5; the answer is D z."""

    D: Tensor

    def __init__(self, iterations: int, generator: Generator, maps: int) -> None:
        super().__init__(iterations)
        D = normal(generator, 1.0, maps, 1, 5, 5)
        self.register_buffer("D", D / D.square().sum().sqrt() / 2)
        self.theta = (0.01 + 0.01 * torch.rand(iterations, generator=generator)).tolist()

    def start(self, *inputs: Tensor) -> States:
        return (torch.zeros_like(inputs[0]).expand(-1, self.D.shape[0], -1, -1),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        z = states[0]
        residual = functional.conv_transpose2d(z, self.D, padding=2) - inputs[0]
        return (soft(z - functional.conv2d(residual, self.D, padding=2), self.theta[k]),)

    def answer(self, states: States, *inputs: Tensor) -> Tensor:
        return functional.conv_transpose2d(states[0], self.D, padding=2)


class PlugAndPlay(Unrolled):
    """x ← R(x - mu B*(B x - y)) with B a 5×5 blur and R(x) = x - N(x), N three 3×3 convolutions with ReLU between."""

    blur: Tensor

    def __init__(self, iterations: int, generator: Generator, channels: int) -> None:
        super().__init__(iterations)
        blur = torch.rand(1, 1, 5, 5, generator=generator)
        self.register_buffer("blur", blur / blur.sum())
        widths = (1, channels, channels, 1)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:], strict=False))
        with torch.no_grad():
            for layer in self.layers:
                fan_in = layer.weight[0].numel()  # type: ignore[union-attr, index]
                layer.weight.copy_(normal(generator, 0.7 * fan_in**-0.5, *layer.weight.shape))  # type: ignore
                layer.bias.copy_(normal(generator, 0.02, *layer.bias.shape))  # type: ignore

    def start(self, *inputs: Tensor) -> States:
        return (inputs[0],)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        x = states[0]
        residual = functional.conv2d(x, self.blur, padding=2) - inputs[0]
        x = x - functional.conv_transpose2d(residual, self.blur, padding=2)
        features = x
        for layer in list(self.layers)[:-1]:
            features = torch.relu(layer(features))
        return (x - self.layers[-1](features),)


def _plane(generator: Generator, batch: int) -> Tensors:
    return (torch.rand(batch, 64, 64, generator=generator),)


def _image(side: int):  # type: ignore[no-untyped-def]
    return lambda generator, batch: (torch.rand(batch, 1, side, side, generator=generator),)


def graphs() -> Iterator[Graph]:
    """The graphs of this file."""
    yield Graph("tv", "TV denoising by Chambolle–Pock, 64×64", 16, TotalVariation, _plane)
    yield Graph(
        "conv-ista", "convolutional ISTA, 64×64, 16 maps of 5×5", 8, lambda k, g: ConvolutionalIsta(k, g, 16),
        _image(64),
    )  # fmt: skip
    yield Graph(
        "plug-and-play", "proximal gradient with a denoiser of 3 convolutions, 32×32, 16 channels", 6,
        lambda k, g: PlugAndPlay(k, g, 16), _image(32),
    )  # fmt: skip
