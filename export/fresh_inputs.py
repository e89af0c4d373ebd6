"""Random inputs like the examples, for the comparison of a file with its module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from unfoldc.export.examples import Examples

# How far what has some structure may move: an input without a batch axis, a triangular matrix.
_LITTLE = 1e-3


def fresh(examples: Examples, size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Random inputs like the examples: rows drawn from them, plus noise of half their spread; positive ones stay so.

    An input without a batch axis, often a matrix of some structure, moves by a thousandth; whole numbers are drawn
    only. Square matrices that are symmetric, positive definite or triangular in all examples stay so.
    """
    result = []
    for tensor, batched in zip(examples.tensors, examples.batched, strict=True):
        drawn = tensor.cpu()
        if batched:
            drawn = drawn[torch.randint(len(tensor), (size,), generator=generator)]
        if tensor.is_floating_point() and tensor.numel():
            spread = float(drawn.double().std(correction=0)) or 1.0
            share = 0.5 if batched or examples.batch is None else _LITTLE
            noise = torch.randn(drawn.shape, generator=generator, dtype=torch.float64)
            moved = _moved(tensor.cpu().double(), drawn.double(), noise, spread * share)
            drawn = moved.to(tensor.dtype)
        result.append(drawn.to(tensor.device))
    return tuple(result)


@contextmanager
def rounded(module: nn.Module, tensors: Sequence[Tensor], generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
    """The inputs, their last digits changed at random, and meanwhile the module with such weights."""
    weights = [w.data for w in (*module.parameters(), *module.buffers()) if w.is_floating_point()]
    before = [w.clone() for w in weights]
    try:
        for w in weights:
            w.copy_(_rounded(w, generator))
        yield tuple(_rounded(t, generator) if t.is_floating_point() else t for t in tensors)
    finally:
        for w, value in zip(weights, before, strict=True):
            w.copy_(value)


def _rounded(tensor: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor)
    return tensor * (1 + torch.finfo(tensor.dtype).eps * noise)


def _square(tensor: Tensor) -> bool:
    return tensor.ndim > 1 and tensor.shape[-1] == tensor.shape[-2] > 1


def _moved(examples: Tensor, drawn: Tensor, noise: Tensor, scale: float) -> Tensor:
    """The drawn ones plus noise that keeps what all examples have in common."""
    positive = bool((drawn >= 0).all()) and bool((drawn > 0).any())
    if _square(examples):
        if bool((examples - examples.mT).abs().max() <= 1e-5 * examples.abs().max()):
            if not torch.linalg.cholesky_ex(examples).info.any():
                noise = noise.abs() if positive else noise
                return drawn + scale * (noise @ noise.mT) / noise.shape[-1]
            noise = (noise + noise.mT) / 2
        elif not examples.triu(1).any() or not examples.tril(-1).any():
            return drawn * (1 + min(scale, _LITTLE) * noise)
    moved = drawn + scale * noise
    return moved.abs() if positive else moved
