"""Running sums and products along an axis: one accumulator that is carried from element to element."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Expr, Let, Local, Store
from unfoldc.kernels.operators.sequences import inserted, loops, only_as_a_whole
from unfoldc.kernels.operators.table import NUMBERS, Arrays, Lowering, Operator, array, given, register
from unfoldc.kernels.program import Node, TensorType


def _axis(wanted: np.ndarray, rank: int) -> int:
    if wanted.size != 1 or not -rank <= wanted.item() < rank:
        raise ValueError(f"axis {wanted.tolist()} of a value with {rank} axes")
    return int(wanted.item()) % rank


def _infer(
    attributes: Mapping[str, Any], types: Sequence[TensorType | None], constants: Arrays
) -> tuple[TensorType, ...]:
    _axis(array(constants, 1), len(given(types, 0).shape))
    return (given(types, 0),)


def _register(
    name: str, numpy_form: Callable[..., np.ndarray], start: int, combine: Callable[[Expr, Expr], Expr]
) -> None:
    """`y[i] = x[0] op .. op x[i]`; without x[i] where `exclusive`, from the other end where `reverse`."""

    def evaluate(attributes: Mapping[str, Any], v: Arrays) -> tuple[np.ndarray, ...]:
        x = array(v, 0)
        axis = _axis(array(v, 1), x.ndim)
        x = np.flip(x, axis) if attributes.get("reverse", 0) else x
        result = numpy_form(x, axis=axis, dtype=x.dtype)
        if attributes.get("exclusive", 0):
            first = np.full_like(result.take([0], axis), start)
            result = np.concatenate([first, result.take(range(x.shape[axis] - 1), axis)], axis)
        return (np.flip(result, axis) if attributes.get("reverse", 0) else result,)

    def nest(lowering: Lowering, node: Node, buffer: str) -> None:
        t = lowering.type(node.inputs[0])
        wanted = lowering.constant(node.inputs[1])
        axis = _axis(np.zeros(1) if wanted is None else wanted, len(t.shape))
        exclusive, n = node.attributes.get("exclusive", 0), t.shape[axis]

        def line(rest: tuple[Expr, ...]) -> None:
            accumulator, value = lowering.fresh("acc"), lowering.fresh("v")
            lowering.emit(Let(accumulator, build.literal(start, t.dtype), mutable=True))

            def element(i: tuple[Expr, ...]) -> None:
                place = build.sub(build.index(n - 1), i[0]) if node.attributes.get("reverse", 0) else i[0]
                at = inserted(rest, axis, place)
                # Read before the store, which may go to the very same place.
                lowering.emit(Let(value, lowering.element(node.inputs[0], at)))
                total = Local(accumulator, t.dtype)
                if exclusive:
                    lowering.emit(Store(buffer, at, total))
                lowering.emit(Assign(accumulator, combine(total, Local(value, t.dtype))))
                if not exclusive:
                    lowering.emit(Store(buffer, at, total))

            loops(lowering, (n,), element)

        loops(lowering, (*t.shape[:axis], *t.shape[axis + 1 :]), line)

    register(
        Operator(
            name,
            "sequence",
            evaluate,
            only_as_a_whole,
            lambda inputs, output: output.size,
            _infer,
            constant_inputs=(1,),
            run_types=NUMBERS,
            nest=nest,
        )
    )


_register("CumSum", np.cumsum, 0, build.add)
_register("CumProd", np.cumprod, 1, build.mul)
