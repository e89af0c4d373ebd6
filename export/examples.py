"""The example inputs of `export_onnx`: their names, and which of them have the batch on axis 0."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unfoldc.errors import InputError


@dataclass(frozen=True)
class Examples:
    """Example inputs; where `batch` is not None, axis 0 of those with a True in `batched` has that size, at least 2."""

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...]
    batched: tuple[bool, ...]
    batch: int | None

    def resized(self, size: int) -> tuple[Tensor, ...]:
        """The tensors with `size` problems in the batch, repeated from the start where there are not enough."""
        if self.batch is None:
            return self.tensors
        rows = torch.arange(size) % self.batch
        pairs = zip(self.tensors, self.batched, strict=True)
        return tuple(t[rows.to(t.device)] if batched else t for t, batched in pairs)


def read_examples(
    module: nn.Module,
    example_inputs: Any,
    batch: str,
    batch_inputs: Sequence[str | int] | None,
    input_names: Sequence[str] | None,
) -> Examples:
    """The example inputs with their names and their batch axis; a batch of one is doubled.

    Raises:
        InputError: an argument does not fit.
    """
    given = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    if not isinstance(given, Sequence) or not given or not all(isinstance(t, Tensor) for t in given):
        raise InputError(
            "example_inputs",
            f"a {type(example_inputs).__name__}" + ("" if isinstance(given, Tensor) else " that is not all tensors"),
            "a tensor, or a tuple of at least one tensor in the order of forward's arguments",
            "Pass `(y,)`, or `(y, H)`; store numbers and switches on the module.",
        )
    if batch not in ("dynamic", "fixed"):
        raise InputError("batch", repr(batch), "'dynamic' or 'fixed'", "Leave it out for a batch of any size.")
    tensors = tuple(t.detach() for t in given)
    names = _input_names(module, len(tensors), input_names)
    if batch == "fixed":
        return Examples(tensors, names, (False,) * len(tensors), None)
    chosen = _batched(tensors, names, batch_inputs)
    size = next(t.shape[0] for t, b in zip(tensors, chosen, strict=True) if b)
    examples = Examples(tensors, names, chosen, size)
    # torch takes a size of one for a constant.
    return examples if size > 1 else Examples(examples.resized(2), names, chosen, 2)


def _input_names(module: nn.Module, count: int, given: Sequence[str] | None) -> tuple[str, ...]:
    if given is not None:
        return check_names("input_names", given, count)
    parameters = inspect.signature(module.forward).parameters.values()
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return tuple(plain[i] if i < len(plain) else f"input{i}" for i in range(count))


def check_names(what: str, given: Sequence[str], count: int) -> tuple[str, ...]:
    """Names of the user's choice.

    Raises:
        InputError: they are not `count` distinct texts.
    """
    names = tuple(given)
    plain = not isinstance(given, str) and all(isinstance(n, str) and n.strip() and n.isprintable() for n in names)
    if not plain or len(set(names)) != len(names) or len(names) != count:
        raise InputError(
            what, repr(given), f"{count} distinct names, none of them empty", f"Pass a list of {count} names."
        )
    return names


def _batched(tensors: Sequence[Tensor], names: Sequence[str], chosen: Sequence[str | int] | None) -> tuple[bool, ...]:
    """Which inputs have the batch on axis 0; by default those as long there as the first."""
    if chosen is None:
        size = tensors[0].shape[0] if tensors[0].ndim else None
        result = tuple(t.ndim > 0 and t.shape[0] == size for t in tensors)
    else:
        unknown = [c for c in chosen if c not in names and c not in range(len(names))]
        if unknown or not chosen:
            raise InputError(
                "batch_inputs",
                repr(unknown[0]) if unknown else "no input at all",
                f"names or positions of inputs: {', '.join(names)}",
                "Name the inputs whose axis 0 is the batch, or pass batch='fixed'.",
            )
        result = tuple(name in chosen or i in chosen for i, name in enumerate(names))
    shapes = {n: tuple(t.shape) for n, t, b in zip(names, tensors, result, strict=True) if b}
    if not shapes or len({s[:1] for s in shapes.values()}) > 1 or any(not s or not s[0] for s in shapes.values()):
        raise InputError(
            "batch_inputs",
            f"shapes {shapes or tuple(tensors[0].shape)}",
            "for batch='dynamic', inputs whose axis 0 is the batch, of one size, not empty",
            "Name the inputs that have a batch axis with batch_inputs=, or pass batch='fixed'.",
        )
    return result
