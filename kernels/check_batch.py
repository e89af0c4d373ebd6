"""Checks that a model treats the problems of a batch one by one, so that a batch may become an outer loop.

The model is read once more with a batch of 2 and lowered with the same values stored. Every loop nest that touches a
batched buffer must index its batch axis with one and the same loop variable, the one with which it stores, and without
that loop the nest must be the one for a single problem.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import For, Load, LoopProgram, Nest, Stmt, Store, Var

STRUCTURE = "the number of problems changes the structure of the program"


def coupled(two: LoopProgram, one: LoopProgram, problems: int = 2) -> str:
    """Says which step couples the problems of a batch, empty if none does. `two` and `one` differ in batch size only.

    A buffer is batched along the axis of `problems` elements in `two` and of one in `one`; inputs without such an axis
    are shared.
    """
    if two.buffers.keys() != one.buffers.keys():
        return STRUCTURE
    batched: dict[str, int] = {}
    for name, buffer in two.buffers.items():
        shape, other = buffer.shape, one.buffers[name].shape
        if len(shape) != len(other):
            return STRUCTURE
        axes = [axis for axis, (n, m) in enumerate(zip(shape, other, strict=True)) if n != m]
        if axes:
            if len(axes) > 1 or (shape[axes[0]], other[axes[0]]) != (problems, 1):
                return f"a value has shape {list(shape)} for {problems} problems and {list(other)} for one"
            batched[name] = axes[0]
        if buffer.space == "constant":
            content = np.broadcast_to(one.constants[name], shape)
            if not np.array_equal(two.constants[name], content, equal_nan=content.dtype.kind == "f"):
                return "a constant depends on the number of problems"
    return _compare(two, one, batched)


def _compare(two: LoopProgram, one: LoopProgram, batched: Mapping[str, int]) -> str:
    if [(s.first, s.count) for s in two.steps] != [(s.first, s.count) for s in one.steps]:
        return STRUCTURE
    parts = ((two.begin, one.begin), *((s.body, t.body) for s, t in zip(two.steps, one.steps, strict=True)))
    for part, other in (*parts, (two.end, one.end)):
        if len(part) != len(other):
            return STRUCTURE
        for nest, single in zip(part, other, strict=True):
            label = nest.origins[0] if isinstance(nest, Nest) and nest.origins else "a copy"
            reason = _check(nest, single, batched)
            if reason:
                return f"{label} {reason}"
    return ""


def _check(nest: Stmt, single: Stmt, batched: Mapping[str, int]) -> str:
    loads = [e.indices[batched[e.buffer]] for e in build.within((nest,)) if isinstance(e, Load) and e.buffer in batched]
    stores = [s for s in build.statements((nest,)) if isinstance(s, Store)]
    (buffer,) = {s.buffer for s in stores}
    if buffer not in batched:
        if not loads and build.numbered((nest,)) == build.numbered((single,)):
            return ""
        return "mixes the problems of a batch into one value" if loads else "depends on the number of problems"
    places = [s.indices[batched[buffer]] for s in stores]
    own = places[0]
    if not isinstance(own, Var) or any(place != own for place in places):
        return "stores at a fixed place of the batch"
    if _carries(nest, own):
        return "goes on from one problem of the batch to the next"
    if any(index != own for index in loads):
        return "reads another problem of the batch than the one it computes"
    uses = [e for e in build.within((nest,)) if e == own]
    if len(uses) > len(loads) + len(stores) or build.numbered(_without_loop(nest, own)) != build.numbered((single,)):
        return "depends on the position in the batch or on the number of problems"
    return ""


def _carries(s: Stmt, own: Var) -> bool:
    """Whether a scalar that exists outside of the loop over the problems changes in it."""
    if not isinstance(s, For | Nest):
        return False
    if not isinstance(s, For) or s.var != own.name:
        return any(_carries(inner, own) for inner in s.body)
    return build.carries_scalars(s)


def _without_loop(s: Stmt, own: Var) -> tuple[Stmt, ...]:
    """The statement for the first problem alone."""
    if isinstance(s, For):
        body = tuple(b for inner in s.body for b in _without_loop(inner, own))
        return body if s.var == own.name else (For(s.var, s.extent, body, s.kind),)
    if isinstance(s, Nest):
        return (Nest(s.origins, tuple(b for inner in s.body for b in _without_loop(inner, own))),)
    return (build.map_stmt(s, lambda e: build.ZERO if e == own else None),)
