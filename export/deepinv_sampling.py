"""deepinv's Downsampling for a free batch, and its prox without the complex blocks that have no ONNX form."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unfoldc.export.deepinv_convolution import convolve, correlate


def replace_sampling(physics: Any) -> None:
    """Give a Downsampling with one filter for all problems the functions below."""
    physics.A = partial(_downsample, physics)
    physics.A_adjoint = partial(_upsample, physics)
    if physics.padding == "circular" and physics.imsize is not None:
        physics.prox_l2 = partial(_prox_l2, physics)


def _downsample(physics: Any, x: Tensor, **options: Any) -> Tensor:
    """A x: the filtered image, every factor-th pixel of it."""
    factor = physics.factor
    return convolve(x, physics.filter, physics.padding)[:, :, ::factor, ::factor]


def _upsample(physics: Any, y: Tensor, **options: Any) -> Tensor:
    """A^T y: the pixels with zeros between them, then the filter's adjoint."""
    factor = physics.factor
    sizes = [factor * n for n in y.shape[2:]] if physics.imsize is None else physics.imsize[-2:]
    if physics.padding == "valid":
        sizes = [n - k + 1 for n, k in zip(sizes, physics.filter.shape[-2:], strict=True)]
    spread = functional.pad(y[:, :, :, None, :, None], (0, factor - 1, 0, 0, 0, factor - 1))
    rows, columns = factor * y.shape[2], factor * y.shape[3]
    spread = spread.reshape(-1, y.shape[1], rows, columns)[:, :, : sizes[0], : sizes[1]]
    return correlate(spread, physics.filter, physics.padding)


def _prox_l2(physics: Any, z: Tensor, y: Tensor, gamma: Tensor | float, **options: Any) -> Tensor:
    """argmin_x gamma/2 ||A x - y||^2 + 1/2 ||x - z||^2 for a circular filter with the transfer function F.

    With b = A^T y + z / gamma, x = gamma (b - r), where r has the transform conj(F) m(F b~) / (m(|F|^2) + 1/gamma);
    b~ is the transform of b, and m the mean over the frequencies that sampling makes one.
    """
    factor = physics.factor
    b = physics.A_adjoint(y) + 1 / gamma * z
    transformed = torch.view_as_real(physics.Fh * torch.fft.fft2(b))
    power = torch.view_as_real(physics.Fh2)[..., :1]
    quotient = _mean(transformed, factor) / (_mean(power, factor) + 1 / gamma)
    tiled = torch.cat([torch.cat([quotient] * factor, 2)] * factor, 3)
    answer: Tensor = (b - torch.fft.ifft2(physics.Fhc * torch.view_as_complex(tiled)).real) * gamma
    return answer


def _mean(x: Tensor, factor: int) -> Tensor:
    """The mean over blocks, `(batch, channels, factor * h, factor * w, n)` to `(batch, channels, h, w, n)`."""
    _, channels, rows, columns, n = x.shape
    blocks: Tensor = x.reshape(-1, channels, factor, rows // factor, factor, columns // factor, n)
    return blocks.mean((2, 4))
