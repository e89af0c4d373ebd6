"""deepinv's convolutions for a free batch: its own have one group for each channel of each problem."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unfoldc.errors import InputError

# Where the filter reaches over the border; for the other modes deepinv's own functions stay, for a batch of one size.
BORDERS = ("valid", "circular", "constant", "zeros")


def has_own(physics: Any) -> bool:
    """Whether the functions below can stand for those of a Blur or Downsampling: one filter for all problems."""
    filter = physics.filter
    return filter is not None and filter.ndim == 4 and filter.shape[0] == 1 and physics.padding in BORDERS


def convolve(x: Tensor, filter: Tensor, padding: str) -> Tensor:
    """filter * x on each channel, `(batch, channels, H, W)`; smaller by the filter's size less 1 if padding is valid.

    filter is `(1, 1 or channels, h, w)`, its centre at ((h - 1) // 2, (w - 1) // 2).
    """
    if padding != "valid":
        x = _pad(x, [((size - 1) // 2, size // 2) for size in filter.shape[-2:]], padding)
    # torch's convolution does not mirror the filter.
    return functional.conv2d(x, _per_channel(filter.flip(-2, -1), x), groups=x.shape[1])


def correlate(y: Tensor, filter: Tensor, padding: str) -> Tensor:
    """The adjoint of `convolve`: the mirrored filter, which reaches as far as that one does on the other side."""
    if padding == "valid":
        y = _pad(y, [(size - 1, size - 1) for size in filter.shape[-2:]], padding)
    else:
        y = _pad(y, [(size // 2, (size - 1) // 2) for size in filter.shape[-2:]], padding)
    return functional.conv2d(y, _per_channel(filter, y), groups=y.shape[1])


def _pad(x: Tensor, reach: list[tuple[int, int]], padding: str) -> Tensor:
    """Rows and columns more on both sides, from the other end of the image or zeros."""
    if padding != "circular":
        rows, columns = reach
        return functional.pad(x, (*columns, *rows))
    for axis, (before, after) in zip((2, 3), reach, strict=True):
        # torch's circular padding writes into slices, which makes dozens of ONNX nodes.
        start, end = x.narrow(axis, x.shape[axis] - before, before), x.narrow(axis, 0, after)
        x = torch.cat([*[start] * (before > 0), x, *[end] * (after > 0)], axis)
    return x


def _per_channel(filter: Tensor, x: Tensor) -> Tensor:
    """The filter as torch's convolution in groups wants it, `(channels, 1, h, w)`."""
    if filter.shape[0] != 1:
        raise InputError(
            "filter",
            f"a tensor of shape {tuple(filter.shape)}",
            "one filter for all problems, (1, 1 or channels, h, w)",
            "Call the solver once for each filter.",
        )
    wide = filter.expand(1, x.shape[1], -1, -1) if filter.shape[1] < x.shape[1] else filter
    return wide.transpose(0, 1)
