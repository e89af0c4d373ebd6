"""deepinv's convolutions for a free batch: its own have one group for each channel of each problem."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Where the filter reaches over the border; for the other modes deepinv's own functions stay, for a batch of one size.
BORDERS = ("valid", "circular", "constant", "zeros")


def replace_convolutions(physics: Any, downsampling: type) -> None:
    """Give a Blur or Downsampling the functions below, if its filter is one for all problems."""
    if physics.filter is None or physics.filter.ndim != 4 or physics.filter.shape[0] != 1:
        return
    if physics.padding not in BORDERS:
        return
    if isinstance(physics, downsampling):
        physics.A = _Downsample(physics)
        physics.A_adjoint = _Upsample(physics)
    elif not physics.use_fft:
        physics.conv = {**physics.conv, 2: convolve}
        physics.conv_transpose = {**physics.conv_transpose, 2: correlate}


def convolve(x: Tensor, filter: Tensor, padding: str) -> Tensor:
    """filter * x on each channel, `(batch, channels, H, W)`; smaller by the filter's size less 1 if padding is valid.

    filter is `(1, 1 or channels, h, w)`, its centre at ((h - 1) // 2, (w - 1) // 2).
    """
    if padding != "valid":
        (top, bottom), (left, right) = _reach(filter)
        mode = "circular" if padding == "circular" else "constant"
        x = F.pad(x, (left, right, top, bottom), mode=mode)
    return F.conv2d(x, _per_channel(filter, x), groups=x.shape[1])


def correlate(y: Tensor, filter: Tensor, padding: str) -> Tensor:
    """The adjoint of `convolve`."""
    full = F.conv_transpose2d(y, _per_channel(filter, y), groups=y.shape[1])
    if padding == "valid":
        return full
    for axis, (before, after) in zip((2, 3), _reach(filter), strict=True):
        full = _fold(full, axis, before, after, padding == "circular")
    return full


def _per_channel(filter: Tensor, x: Tensor) -> Tensor:
    """The filter as torch's correlation wants it, `(channels, 1, h, w)`."""
    return filter.flip(-2, -1).expand(1, x.shape[1], -1, -1).transpose(0, 1)


def _reach(filter: Tensor) -> list[tuple[int, int]]:
    """How far the padding reaches on each side, rows before columns."""
    return [((size - 1) // 2, size // 2) for size in filter.shape[-2:]]


def _fold(x: Tensor, axis: int, before: int, after: int, circular: bool) -> Tensor:
    """The adjoint of padding an axis: what lies outside goes back to where it was taken from, or is dropped."""
    size = x.shape[axis] - before - after
    inside = x.narrow(axis, before, size)
    if not circular:
        return inside
    if after:
        # What lies beyond the end was taken from the start.
        first = inside.narrow(axis, 0, after) + x.narrow(axis, before + size, after)
        inside = torch.cat([first, inside.narrow(axis, after, size - after)], axis)
    if before:
        last = inside.narrow(axis, size - before, before) + x.narrow(axis, 0, before)
        inside = torch.cat([inside.narrow(axis, 0, size - before), last], axis)
    return inside


class _Downsample:
    """A x: the filtered image, every factor-th pixel of it."""

    def __init__(self, physics: Any) -> None:
        self.physics = physics

    def __call__(self, x: Tensor, **options: Any) -> Tensor:
        own = self.physics
        return convolve(x, own.filter, own.padding)[:, :, :: own.factor, :: own.factor]


class _Upsample(_Downsample):
    """A^T y: pixels a factor apart with zeros between them, filtered by the adjoint."""

    def __call__(self, y: Tensor, **options: Any) -> Tensor:
        own = self.physics
        sizes = list(own.imsize if own.imsize is not None else (1, *(own.factor * n for n in y.shape[2:])))[-2:]
        if own.padding == "valid":
            sizes = [n - k + 1 for n, k in zip(sizes, own.filter.shape[-2:], strict=True)]
        rows, columns = (_spread(count, size, own.factor, y) for count, size in zip(y.shape[2:], sizes, strict=True))
        return correlate(rows @ y @ columns.T, own.filter, own.padding)


def _spread(count: int, size: int, factor: int, like: Tensor) -> Tensor:
    """The matrix `(size, count)` that puts entry i at i * factor."""
    matrix = torch.zeros(size, count, dtype=like.dtype, device=like.device)
    matrix[torch.arange(count) * factor, torch.arange(count)] = 1
    return matrix
