"""Calls of torch that are taken apart before the exporter sees them.

Either ONNX has no such operator, or it keeps a factor of the call in an attribute, which is always float32: in float64
models that would cost digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

_aten: Any = torch.ops.aten
# A product of so many factors, one after the other, is as much as a graph should hold.
_MOST_FACTORS = 256


def take_apart(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program without `torch.hypot`, `torch.cumprod` and, in float64, without calls that would lose digits."""
    table: dict[Any, Callable[..., Any]] = {}
    for node in _calls(program):
        if node.target in _OWN and _small(node):
            table[node.target] = _OWN[node.target]
        elif node.target in _IN_DOUBLE and _type(node) == torch.float64 and _loses_digits(node):
            table.update({call: _by_torch(call) for call in _IN_DOUBLE[node.target]})
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
    if node.target != _aten.cumprod.default or not isinstance(value, Tensor) or not value.ndim:
        return True
    size = value.shape[int(node.args[1])]  # type: ignore[arg-type]
    return isinstance(size, int) and size <= _MOST_FACTORS


def _loses_digits(node: fx.Node) -> bool:
    """Whether a number of the call, one that it leaves out included, is not a float32 number."""
    if node.target in _WITH_OWN_NUMBERS:
        return True
    schema = node.target._schema  # type: ignore[union-attr]
    given = [*node.args, *node.kwargs.values()]
    numbers = [a for a in (*given, *(a.default_value for a in schema.arguments[len(node.args) :])) if type(a) is float]
    return any(float(np.float32(number)) != number for number in numbers)


def _by_torch(call: Any) -> Callable[..., Any]:
    """What torch itself makes of a call."""
    decomposition: Callable[..., Any] | None = torch._decomp.decomposition_table.get(call)
    return decomposition if decomposition is not None else call.decompose  # type: ignore[no-any-return]


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


_OWN: Mapping[Any, Callable[..., Any]] = {_aten.hypot.default: _hypot, _aten.cumprod.default: _cumprod}

_LAYER: Sequence[Any] = (_aten.layer_norm.default, _aten.native_layer_norm.default)
_GROUP: Sequence[Any] = (_aten.group_norm.default, _aten.native_group_norm.default)
_BATCH: Sequence[Any] = (
    _aten.batch_norm.default,
    _aten.instance_norm.default,
    _aten._native_batch_norm_legit_no_training.default,
    _aten._native_batch_norm_legit.no_stats,
)
_RMS: Sequence[Any] = (_aten.rms_norm.default, _aten._fused_rms_norm.default)
_ATTENTION: Sequence[Any] = (
    _aten.scaled_dot_product_attention.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
)
# What torch.onnx translates to an operator with attributes, and all that has to be taken apart for it.
_IN_DOUBLE: Mapping[Any, Sequence[Any]] = {
    _aten.leaky_relu.default: (_aten.leaky_relu.default,),
    _aten.elu.default: (_aten.elu.default,),
    _aten.celu.default: (_aten.celu.default, _aten.elu.default),
    _aten.selu.default: (_aten.selu.default, _aten.elu.default),
    _aten.hardsigmoid.default: (_aten.hardsigmoid.default,),
    _aten.hardswish.default: (_aten.hardswish.default,),
    _aten.addmm.default: (_aten.addmm.default,),
    _aten.layer_norm.default: _LAYER,
    _aten.group_norm.default: _GROUP,
    _aten.instance_norm.default: _BATCH,
    _aten.batch_norm.default: _BATCH,
    _aten.rms_norm.default: _RMS,
    _aten.scaled_dot_product_attention.default: _ATTENTION,
}
_WITH_OWN_NUMBERS = (
    _aten.selu.default,
    _aten.hardsigmoid.default,
    _aten.hardswish.default,
    _aten.rms_norm.default,
    _aten.scaled_dot_product_attention.default,
)
