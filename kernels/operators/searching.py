"""Where the greatest elements are. The order is total, as in PyTorch: of equal elements the first comes first.

The steps do not depend on the data: every element is looked at every time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Expr, Let, Local, Store
from unfoldc.kernels.operators.sequences import inserted, loops, only_as_a_whole
from unfoldc.kernels.operators.table import (
    FLOATS,
    NUMBERS,
    Arrays,
    Index,
    Lowering,
    Operator,
    array,
    given,
    register,
)
from unfoldc.kernels.program import Node, TensorType


def _axis(attributes: Mapping[str, Any], rank: int) -> int:
    axis = int(attributes.get("axis", 0))
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of a value with {rank} axes")
    return axis % rank


def _at_least(a: Expr, b: Expr) -> Expr:
    """a >= b, NaN being the greatest number."""
    result = build.binary("ge", a, b)
    return build.binary("or", result, build.unary("isnan", a)) if a.dtype in FLOATS else result


def _above(a: Expr, b: Expr) -> Expr:
    return build.unary("not", _at_least(b, a))


def _scalar(lowering: Lowering, prefix: str, value: Expr, mutable: bool = True) -> Local:
    name = lowering.fresh(prefix)
    lowering.emit(Let(name, value, mutable))
    return Local(name, value.dtype)


# -- ArgMax, ArgMin ------------------------------------------------------------------------------------------------


def _extreme_infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays
) -> tuple[TensorType, ...]:
    shape = given(types, 0).shape
    axis = _axis(attributes, len(shape))
    middle = (1,) if attributes.get("keepdims", 1) else ()
    return (TensorType("int64", (*shape[:axis], *middle, *shape[axis + 1 :])),)


def _register_extreme(name: str, operator: str) -> None:
    """The place of the greatest or the least element; of the first NaN if there is any."""

    def evaluate(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
        x = array(v, 0)
        axis = _axis(attributes, x.ndim)
        find = np.argmax if operator == "gt" else np.argmin
        if attributes.get("select_last_index", 0):
            result = x.shape[axis] - 1 - find(np.flip(x, axis), axis=axis)
        else:
            result = find(x, axis=axis)
        result = np.asarray(result, np.int64)
        return (np.expand_dims(result, axis) if attributes.get("keepdims", 1) else result,)

    def replaces(new: Expr, old: Expr, last: int) -> Expr:
        if last:
            result = build.binary("ge" if operator == "gt" else "le", new, old)
            return build.binary("or", result, build.unary("isnan", new)) if new.dtype in FLOATS else result
        result = build.binary(operator, new, old)
        if new.dtype not in FLOATS:
            return result
        first_nan = build.binary("and", build.unary("isnan", new), build.unary("not", build.unary("isnan", old)))
        return build.binary("or", result, first_nan)

    def element(lowering: Lowering, node: Node, at: Index) -> Expr:
        shape = lowering.type(node.inputs[0]).shape
        axis = _axis(node.attributes, len(shape))
        rest = (*at[:axis], *at[axis + 1 :]) if node.attributes.get("keepdims", 1) else at
        best = _scalar(lowering, "best", lowering.element(node.inputs[0], inserted(rest, axis, build.ZERO)))
        place = _scalar(lowering, "at", build.ZERO)

        def look(i: Index) -> None:
            here = build.add(i[0], build.index(1))
            new = lowering.element(node.inputs[0], inserted(rest, axis, here))
            wins = _scalar(lowering, "wins", replaces(new, best, node.attributes.get("select_last_index", 0)), False)
            lowering.emit(Assign(best.name, build.select(wins, new, best)))
            lowering.emit(Assign(place.name, build.select(wins, here, place)))

        if shape[axis] > 1:
            loops(lowering, (shape[axis] - 1,), look)
        return build.cast(place, "int64")

    register(
        Operator(
            name,
            "reduction",
            evaluate,
            element,
            lambda inputs, output: inputs[0].size,
            _extreme_infer,
            run_types=NUMBERS,
        )
    )


# -- TopIndices ----------------------------------------------------------------------------------------------------


def _top_infer(attributes: Mapping[str, Any], types: Sequence[TensorType | None], _: Arrays) -> tuple[TensorType, ...]:
    shape = given(types, 0).shape
    axis, k = _axis(attributes, len(shape)), attributes["k"]
    if not 0 <= k <= shape[axis]:
        raise ValueError(f"{k} of the {shape[axis]} elements along axis {axis}")
    return (TensorType("int64", (*shape[:axis], k, *shape[axis + 1 :])),)


def _top(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
    x = array(v, 0)
    axis = _axis(attributes, x.ndim)
    if attributes["largest"]:
        # Sorted from behind and read from behind, equal elements keep their order.
        order = np.flip(x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    return (order.take(range(attributes["k"]), axis).astype(np.int64),)


def _top_nest(lowering: Lowering, node: Node, buffer: str) -> None:
    """Each of the k places is found by one look at all elements: the best of those that come after the one before."""
    t = lowering.type(node.inputs[0])
    axis, k, largest = _axis(node.attributes, len(t.shape)), node.attributes["k"], node.attributes["largest"]

    def ordered(test: Any, before: Expr, after: Expr) -> Expr:
        result: Expr = test(before, after) if largest else test(after, before)
        return result

    def line(rest: Index) -> None:
        first = lowering.element(node.inputs[0], inserted(rest, axis, build.ZERO))
        last, last_at = _scalar(lowering, "last", first), _scalar(lowering, "last_at", build.index(-1))
        # Outside the loop over the places, which are not independent of each other as the rows of a product are.
        best, best_at = _scalar(lowering, "best", first), _scalar(lowering, "best_at", build.index(-1))

        def choose(r: Index) -> None:
            lowering.emit(Assign(best_at.name, build.index(-1)))

            def look(j: Index) -> None:
                here = lowering.element(node.inputs[0], inserted(rest, axis, j[0]))
                right = build.binary("gt", j[0], last_at)
                follows = build.select(right, ordered(_at_least, last, here), ordered(_above, last, here))
                left = build.binary("or", build.binary("lt", last_at, build.ZERO), follows)
                better = build.binary("or", build.binary("lt", best_at, build.ZERO), ordered(_above, here, best))
                wins = _scalar(lowering, "wins", build.binary("and", left, better), False)
                lowering.emit(Assign(best.name, build.select(wins, here, best)))
                lowering.emit(Assign(best_at.name, build.select(wins, j[0], best_at)))

            loops(lowering, (t.shape[axis],), look)
            lowering.emit(Assign(last.name, best))
            lowering.emit(Assign(last_at.name, best_at))
            lowering.emit(Store(buffer, inserted(rest, axis, r[0]), build.cast(best_at, "int64")))

        loops(lowering, (k,), choose)

    loops(lowering, (*t.shape[:axis], *t.shape[axis + 1 :]), line)


def _top_flops(inputs: Sequence[TensorType], output: TensorType) -> int:
    """Comparisons: each result is found among all elements."""
    lines = [n for n, k in zip(inputs[0].shape, output.shape, strict=True) if n != k]
    return output.size * (lines[0] if lines else max(output.shape))


_register_extreme("ArgMax", "gt")
_register_extreme("ArgMin", "lt")
register(
    Operator("TopIndices", "sequence", _top, only_as_a_whole, _top_flops, _top_infer, run_types=NUMBERS, nest=_top_nest)
)
