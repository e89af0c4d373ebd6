"""Reductions over axes: sum, mean, norms, extrema."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Expr, For, Let, Local, Var
from unfoldc.kernels.operators.table import (
    FLOATS,
    NUMBERS,
    Arrays,
    Index,
    Lowering,
    Operator,
    array,
    given,
    optional,
    register,
)
from unfoldc.kernels.program import Node, TensorType


def _axes(attributes: Mapping[str, Any], wanted: np.ndarray | None, rank: int) -> tuple[int, ...]:
    axes = attributes.get("axes") if wanted is None else [int(a) for a in np.ravel(wanted)]
    if not axes:
        return () if attributes.get("noop_with_empty_axes", 0) else tuple(range(rank))
    if any(not -rank <= a < rank for a in axes):
        raise ValueError(f"reduction over axes {list(axes)} of a value with {rank} axes")
    return tuple(sorted({a % rank for a in axes}))


def _register(
    name: str,
    numpy_form: Callable[..., Any],
    start: Callable[[str], float],
    combine: Callable[[Expr, Expr], Expr],
    finish: Callable[[Expr, int], Expr] = lambda e, n: e,
    run_types: tuple[str, ...] = NUMBERS,
) -> None:
    def infer(
        attributes: Mapping[str, Any], types: Sequence[TensorType | None], constants: Arrays
    ) -> tuple[TensorType, ...]:
        t = given(types, 0)
        axes = _axes(attributes, optional(constants, 1), len(t.shape))
        if attributes.get("keepdims", 1):
            return (TensorType(t.dtype, tuple(1 if a in axes else n for a, n in enumerate(t.shape))),)
        return (TensorType(t.dtype, tuple(n for a, n in enumerate(t.shape) if a not in axes)),)

    def evaluate(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
        x = array(v, 0)
        axes = _axes(attributes, optional(v, 1), x.ndim)
        result = numpy_form(x, axis=axes, keepdims=bool(attributes.get("keepdims", 1)))
        return (np.asarray(result).astype(x.dtype),)

    def element(lowering: Lowering, node: Node, at: Index) -> Expr:
        t = lowering.type(node.inputs[0])
        wanted = lowering.constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else None
        axes = _axes(node.attributes, wanted, len(t.shape))
        accumulator = lowering.fresh("acc")
        lowering.emit(Let(accumulator, build.literal(start(t.dtype), t.dtype), mutable=True))
        variables = {a: lowering.fresh("j") for a in axes}
        kept = list(at) if not node.attributes.get("keepdims", 1) else [i for a, i in enumerate(at) if a not in axes]

        def body() -> None:
            rest = iter(kept)
            place = tuple(
                (Var(variables[a]) if t.shape[a] > 1 else build.ZERO) if a in axes else next(rest)
                for a in range(len(t.shape))
            )
            value = lowering.element(node.inputs[0], place)
            lowering.emit(Assign(accumulator, combine(Local(accumulator, t.dtype), value)))

        block = lowering.nested(body)
        for a in reversed(axes):
            if t.shape[a] > 1:
                block = (For(variables[a], t.shape[a], block),)
        for statement in block:
            lowering.emit(statement)
        n = int(np.prod([t.shape[a] for a in axes], dtype=np.int64))
        return finish(Local(accumulator, t.dtype), n)

    def flops(inputs: Sequence[TensorType], output: TensorType) -> int:
        return inputs[0].size

    register(Operator(name, "reduction", evaluate, element, flops, infer, constant_inputs=(1,), run_types=run_types))


def _square(e: Expr) -> Expr:
    return build.mul(e, e)


def _lowest(dtype: str) -> float:
    return float("-inf") if dtype in FLOATS else int(np.iinfo(dtype).min)


def _highest(dtype: str) -> float:
    return float("inf") if dtype in FLOATS else int(np.iinfo(dtype).max)


def _zero(dtype: str) -> float:
    return 0.0


def _divide(e: Expr, n: int) -> Expr:
    return build.binary("div", e, build.literal(n, e.dtype))


_register("ReduceSum", np.sum, _zero, build.add)
_register("ReduceMean", np.mean, _zero, build.add, _divide, FLOATS)
_register("ReduceMax", np.max, _lowest, lambda a, b: build.binary("max", a, b))
_register("ReduceMin", np.min, _highest, lambda a, b: build.binary("min", a, b))
_register("ReduceProd", np.prod, lambda _: 1.0, build.mul)
_register("ReduceL1", lambda x, **k: np.sum(np.abs(x), **k), _zero, lambda a, b: build.add(a, build.unary("abs", b)))
_register("ReduceSumSquare", lambda x, **k: np.sum(x * x, **k), _zero, lambda a, b: build.add(a, _square(b)))
_register(
    "ReduceL2",
    lambda x, **k: np.sqrt(np.sum(x * x, **k)),
    _zero,
    lambda a, b: build.add(a, _square(b)),
    lambda e, n: build.unary("sqrt", e),
    FLOATS,
)
