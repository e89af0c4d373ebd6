"""The module while it is exported: finite weights, evaluation mode, and afterwards as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import nn

from unfoldc.errors import ExportError


def check_weights(module: nn.Module) -> None:
    """Refuse weights that are not numbers.

    Raises:
        ExportError: a parameter or buffer holds NaN, or a parameter infinity.
    """
    for kind, tensors in (("parameter", module.named_parameters()), ("buffer", module.named_buffers())):
        for name, tensor in tensors:
            if not tensor.is_floating_point():
                continue
            # An infinite buffer may be a bound or a mask; an infinite parameter comes from training that diverged.
            bad = tensor.isnan() if kind == "buffer" else ~tensor.isfinite()
            if bad.any():
                raise ExportError(
                    name,
                    f"{int(bad.sum())} of {tensor.numel()} elements of this {kind} are NaN or infinite",
                    "finite weights",
                    "Load a checkpoint from before training diverged, or train again with a smaller learning rate.",
                )


_comparing: ContextVar[bool] = ContextVar("unfoldc_comparing", default=False)


@contextmanager
def comparing() -> Iterator[None]:
    """While it lasts a module that would refuse an answer which is not finite returns it: the file does so too."""
    token = _comparing.set(True)
    try:
        yield
    finally:
        _comparing.reset(token)


def may_refuse() -> bool:
    """Whether a module may raise because of numbers that it sees: not while it is traced or compared with a file."""
    return not (torch.compiler.is_compiling() or _comparing.get())


@contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode, without gradients and with its own random numbers; all is put back afterwards."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for part, training in modes.items():
            part.training = training
