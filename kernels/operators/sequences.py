"""What operators of kind "sequence" have in common: the loops around their lines."""

from __future__ import annotations

from collections.abc import Callable

from unfoldc.kernels import build
from unfoldc.kernels.loops import Expr, For, Var
from unfoldc.kernels.operators.table import Index, Lowering
from unfoldc.kernels.program import Node


def only_as_a_whole(lowering: Lowering, node: Node, at: Index) -> Expr:
    """Stands where other operators make one element; a sequence is always stored, so that nobody asks for one."""
    raise ValueError(f"an element of {node.operator} cannot be made alone")


def loops(lowering: Lowering, extents: tuple[int, ...], body: Callable[[Index], None]) -> None:
    """Emits loops over `extents` around what `body` emits; it gets the indices."""
    variables = [lowering.fresh("i") if n > 1 else "" for n in extents]
    at: Index = tuple(Var(name) if name else build.ZERO for name in variables)
    block = lowering.nested(lambda: body(at))
    for name, n in reversed(list(zip(variables, extents, strict=True))):
        if name:
            block = (For(name, n, block),)
    for statement in block:
        lowering.emit(statement)


def inserted(rest: Index, axis: int, here: Expr) -> Index:
    """The index with `here` along `axis` and `rest` along the other axes."""
    return (*rest[:axis], here, *rest[axis:])
