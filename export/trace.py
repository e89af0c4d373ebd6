"""From a module to the exporter's unoptimised ONNX model: optimising would destroy the likeness of the iterations."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any

import onnx
import torch
from torch import nn

from unfoldc.errors import ExportError
from unfoldc.export.decompositions import take_apart
from unfoldc.export.digits import keep_digits
from unfoldc.export.exact_calls import refuse
from unfoldc.export.exact_operators import translations
from unfoldc.export.examples import Examples
from unfoldc.export.failures import capture_error, conversion_error
from unfoldc.export.listing import Listing, read_model
from unfoldc.export.markers import recording, translation
from unfoldc.export.tidy import rename_constants


@dataclass(frozen=True)
class Traced:
    """A traced module: its listing, torch's program with the same names of values, and how often each submodule ran.

    `weights` are the names of parameters and buffers in the module's order, a tied one under its first name.
    `batch_symbol` is torch's name for the size of the batch, "" if that is fixed.
    """

    listing: Listing
    program: torch.export.ExportedProgram
    calls: Mapping[str, int]
    weights: tuple[str, ...]
    batch_symbol: str


def trace(module: nn.Module, examples: Examples, opset: int) -> Traced:
    """Run the module once on symbolic inputs and translate what it did.

    Raises:
        ExportError: torch cannot trace the module, or one of its operators has no ONNX form.
    """
    free = torch.export.Dim("batch")
    shapes = tuple({0: free} if batched else None for batched in examples.batched)
    with quiet():
        try:
            with recording():
                captured = torch.export.export(
                    module, examples.tensors, dynamic_shapes=_nested(module, shapes), strict=False
                )
        except Exception as error:
            raise capture_error(module, error, examples.batch) from error
        marks = [n for n in captured.graph.nodes if n.target is torch.ops.unfoldc.iterate.default]
        refuse(module, captured)
        try:
            exported = torch.onnx.export(
                take_apart(captured),
                dynamo=True,
                optimize=False,
                verbose=False,
                opset_version=opset,
                custom_translation_table={torch.ops.unfoldc.iterate.default: translation, **translations()},
            )
        except Exception as error:
            raise conversion_error(module, error, captured) from error
    if exported is None or exported.exported_program is None:
        raise ExportError(
            type(module).__name__, "torch.onnx gave no model", "a model", "Use the pinned version of torch."
        )
    model = exported.model_proto
    keep_digits(model)
    names = [tuple(n.args[1].split(",")) if n.args[1:] and n.args[1] else () for n in marks]
    listing = read_model(model, names)
    if len(listing.markers) < len(marks):
        raise ExportError(
            f"{type(module).__name__}.forward",
            f"after {len(marks) - len(listing.markers)} of its {len(marks)} calls nothing reads what `unfoldc.iterate` "
            "returns",
            "markers through which all tensors pass that the next iteration needs",
            "Assign the result and go on with it, as in `x = unfoldc.iterate(x)` or, with two states, "
            "`x, v = unfoldc.iterate(x, v)`.",
        )
    aliases = _first_names(module)
    weights = tuple(dict.fromkeys(aliases.values()))
    listing = rename_constants(listing, aliases)
    return Traced(listing, exported.exported_program, _calls(captured), weights, _symbol(model, examples))


def _first_names(module: nn.Module) -> dict[str, str]:
    """For every name of a parameter or buffer the first name of the same tensor."""
    first: dict[int, str] = {}
    names = {}
    for tensors in (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)):
        for name, tensor in tensors:
            names[name] = first.setdefault(id(tensor), name)
    return names


def _nested(module: nn.Module, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Dynamic shapes as torch wants them: inputs that forward takes as *args form a tuple of their own."""
    plain: list[Any] = []
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return (*plain, shapes[len(plain) :])
        if len(plain) < len(shapes):
            plain.append(shapes[len(plain)])
    return tuple(plain)


def _calls(program: torch.export.ExportedProgram) -> dict[str, int]:
    """How often each submodule was called: torch numbers the calls after the first, `path@1`, `path@2`, ..."""
    calls: dict[str, int] = {}
    for node in program.graph.nodes:
        for key, (path, _) in (node.meta.get("nn_module_stack") or {}).items():
            number = int(key.rpartition("@")[2]) if "@" in key and key.rpartition("@")[2].isdecimal() else 0
            if path:
                calls[path] = max(calls.get(path, 0), number + 1)
    return calls


def _symbol(model: onnx.ModelProto, examples: Examples) -> str:
    for value, batched in zip(model.graph.input, examples.batched, strict=True):
        if batched:
            return str(value.type.tensor_type.shape.dim[0].dim_param)
    return ""


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that it misses and on its own deprecations.

    Of its failures it also prints a graph to stderr; they are exceptions as well, and those pass.
    """
    import torch.onnx._internal.exporter._registration  # noqa: F401  makes the loggers

    # Setting a level costs a walk over all loggers, hundreds of them; those without a level of their own inherit.
    below = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("torch.")]
    loggers = [logging.getLogger("torch"), *(logger for logger in below if logger.level != logging.NOTSET)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
