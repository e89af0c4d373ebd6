"""Calls of torch that are taken apart before the exporter sees them.

Either ONNX has no such operator, or one on sequences of tensors only, or it keeps a factor of the call in an attribute,
which is always float32: in float64 models that would cost digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from unfoldc.export import exact_calls, in_double

_aten: Any = torch.ops.aten
# A product of so many factors, one after the other, is as much as a graph should hold.
_MOST_FACTORS = 256


def take_apart(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program without `torch.hypot`, `torch.cumprod`, `torch.hstack` and its kind, and calls that lose digits.

    Exact solves are expressed by the operators of `exact_operators`.
    """
    table: dict[Any, Callable[..., Any]] = {}
    for node in _calls(program):
        if node.target in exact_calls.CALLS:
            table[node.target] = exact_calls.CALLS[node.target]
        elif node.target in _OWN and _small(node):
            table[node.target] = _OWN[node.target]
        elif node.target in _IN_DOUBLE and _type(node) == torch.float64 and _loses_digits(node):
            table[node.target] = _IN_DOUBLE[node.target]
            if node.target == _aten.batch_norm.default:
                table[_aten._native_batch_norm_legit_no_training.default] = in_double.native_batch_norm
    return program.run_decompositions(table) if table else program


def _calls(program: torch.export.ExportedProgram) -> Iterator[fx.Node]:
    for module in program.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            yield from (node for node in module.graph.nodes if node.op == "call_function")


def _type(node: fx.Node) -> torch.dtype | None:
    value = node.meta.get("val")
    first = value[0] if isinstance(value, tuple | list) and value else value
    return first.dtype if isinstance(first, Tensor) else None


def _small(node: fx.Node) -> bool:
    value = node.meta.get("val")
    if node.target == _aten.diagonal.default:
        return _of_known_size(node)
    if node.target != _aten.cumprod.default or not isinstance(value, Tensor) or not value.ndim:
        return True
    size = value.shape[int(node.args[1])]  # type: ignore[arg-type]
    return isinstance(size, int) and size <= _MOST_FACTORS


def _of_known_size(node: fx.Node) -> bool:
    """Whether the matrices of a call of `torch.diagonal` have a fixed size."""
    whole: Any = node.args[0]
    axes: Any = (*node.args[2:], *(node.kwargs[n] for n in ("dim1", "dim2") if n in node.kwargs))
    return all(isinstance(whole.meta["val"].shape[axis], int) for axis in axes or (0, 1))


def _loses_digits(node: fx.Node) -> bool:
    """Whether a number of the call, one that it leaves out included, is not a float32 number."""
    if node.kwargs.get("enable_gqa"):
        return False  # attention with fewer keys than queries: torch.onnx's own translation
    if node.target in _WITH_OWN_NUMBERS:
        return True
    schema = node.target._schema  # type: ignore[union-attr]
    given = [*node.args, *node.kwargs.values()]
    numbers = [a for a in (*given, *(a.default_value for a in schema.arguments[len(node.args) :])) if type(a) is float]
    with np.errstate(over="ignore"):
        return any(float(np.float32(number)) != number for number in numbers)


def _hypot(a: Tensor, b: Tensor) -> Tensor:
    """√(a² + b²) without overflow; infinite where one of them is, even if the other is NaN."""
    a, b = a.abs(), b.abs()
    large, small = torch.maximum(a, b), torch.minimum(a, b)
    ratio = torch.where(large == 0, torch.zeros_like(small), small / large)
    found = large * torch.sqrt(1 + ratio * ratio)
    infinite = torch.full_like(found, float("inf"))
    return torch.where((a == float("inf")) | (b == float("inf")), infinite, found)


def _cumprod(value: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Products of the first 1, 2, ... elements, in this order: another one could overflow where torch does not."""
    value = value.to(torch.int64 if dtype is None and not value.dtype.is_floating_point else dtype or value.dtype)
    if not value.ndim or not value.shape[dim]:
        return value.clone()
    factors = [value.narrow(dim, i, 1) for i in range(value.shape[dim])]
    for i in range(1, len(factors)):
        factors[i] = factors[i - 1] * factors[i]
    return torch.cat(factors, dim)


def _prod(value: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    return torch.prod(value.reshape(-1), 0, dtype=dtype)


def _hstack(tensors: Sequence[Tensor]) -> Tensor:
    tensors = [t.reshape(1) if t.ndim == 0 else t for t in tensors]
    return torch.cat(tensors, 0 if tensors[0].ndim == 1 else 1)


def _vstack(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.reshape(1, -1) if t.ndim < 2 else t for t in tensors], 0)


def _dstack(tensors: Sequence[Tensor]) -> Tensor:
    flat = [t.reshape(1, -1) if t.ndim < 2 else t for t in tensors]
    return torch.cat([t.unsqueeze(-1) if t.ndim == 2 else t for t in flat], 2)


def _column_stack(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.reshape(-1, 1) if t.ndim < 2 else t for t in tensors], 1)


def _diagonal(value: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Every (columns + 1)-th element of the flattened matrix; torch.onnx multiplies with a mask and adds up."""
    matrix = value.movedim((dim1, dim2), (-2, -1))
    rows, columns = matrix.shape[-2:]
    count = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    first = offset if offset >= 0 else -offset * columns
    last = first + max(count - 1, 0) * (columns + 1) + 1 if count else first
    return matrix.flatten(-2)[..., first : last : columns + 1]


def _arange(start: float, end: float, step: float = 1, **options: Any) -> Tensor:
    count = max(0, math.ceil((end - start) / step))
    return (
        torch.arange(count, device=options.get("device")).to(options.get("dtype") or torch.get_default_dtype()) * step
        + start
    )


# torch.onnx lacks the first three; the stacks would become loops over sequences of tensors.
_OWN: Mapping[Any, Callable[..., Any]] = {
    _aten.hypot.default: _hypot,
    _aten.cumprod.default: _cumprod,
    _aten.prod.default: _prod,
    _aten.hstack.default: _hstack,
    _aten.vstack.default: _vstack,
    _aten.dstack.default: _dstack,
    _aten.column_stack.default: _column_stack,
    _aten.diagonal.default: _diagonal,
}
# What torch.onnx translates to an operator with attributes.
_IN_DOUBLE: Mapping[Any, Callable[..., Any]] = {
    _aten.addmm.default: in_double.addmm,
    _aten.arange.start: _arange,
    _aten.arange.start_step: _arange,
    _aten.batch_norm.default: in_double.batch_norm,
    _aten.celu.default: in_double.celu,
    _aten.elu.default: in_double.elu,
    _aten.gelu.default: in_double.gelu,
    _aten.group_norm.default: in_double.group_norm,
    _aten.hardsigmoid.default: in_double.hardsigmoid,
    _aten.hardswish.default: in_double.hardswish,
    _aten.instance_norm.default: in_double.instance_norm,
    _aten.layer_norm.default: in_double.layer_norm,
    _aten.leaky_relu.default: in_double.leaky_relu,
    _aten.rms_norm.default: in_double.rms_norm,
    _aten.scaled_dot_product_attention.default: in_double.attention,
    _aten.selu.default: in_double.selu,
}
_WITH_OWN_NUMBERS = (
    _aten.celu.default,
    _aten.gelu.default,
    _aten.hardsigmoid.default,
    _aten.hardswish.default,
    _aten.rms_norm.default,
    _aten.scaled_dot_product_attention.default,
    _aten.selu.default,
)
