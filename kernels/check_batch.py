"""Checks that a model treats the problems of a batch one by one, so that a batch may become an outer loop.

The model is read once more with a batch of 2 and lowered without any optimisation. Every loop nest that touches a
batched buffer must then index its batch axis with one and the same loop variable, the one with which it stores.
"""

from __future__ import annotations

from unfoldc.kernels import build
from unfoldc.kernels.loops import Expr, Load, LoopProgram, Nest, Stmt, Store, Var


def coupled(two: LoopProgram, one: LoopProgram) -> str:
    """Says which step couples the problems of a batch, empty if none does. `two` and `one` differ in batch size only.

    A buffer is batched where its first axis is 2 in `two` and 1 in `one`; inputs without a batch axis are shared.
    """
    batched: set[str] = set()
    for name, buffer in two.buffers.items():
        other = one.buffers.get(name)
        if other is None or len(other.shape) != len(buffer.shape):
            return "the number of problems changes the structure of the program"
        if buffer.shape != other.shape:
            if buffer.shape[:1] != (2,) or other.shape != (1, *buffer.shape[1:]):
                return f"a value has shape {list(buffer.shape)} for two problems and {list(other.shape)} for one"
            if buffer.space == "constant":
                return "a constant depends on the number of problems"
            batched.add(name)
    for part in (two.begin, *(s.body for s in two.steps), two.end):
        for nest in part:
            reason = _check(nest, batched)
            if reason:
                return reason
    return ""


def _check(nest: Stmt, batched: set[str]) -> str:
    label = nest.origins[0] if isinstance(nest, Nest) and nest.origins else "a copy"
    stores = [s for s in build.statements((nest,)) if isinstance(s, Store)]
    for store in stores:
        loads = [
            e for top in build.expressions(nest) for e in build.walk(top) if isinstance(e, Load) and e.buffer in batched
        ]
        if store.buffer not in batched:
            if loads:
                return f"{label} mixes the problems of a batch into one value"
            continue
        own = store.indices[0]
        if not isinstance(own, Var):
            return f"{label} stores at a fixed place of the batch"
        if any(load.indices[0] != own for load in loads):
            return f"{label} reads another problem of the batch than the one it computes"
        if _uses_elsewhere(nest, own, batched):
            return f"{label} depends on the position in the batch"
    return ""


def _uses_elsewhere(nest: Stmt, own: Var, batched: set[str]) -> bool:
    """Whether the batch variable appears anywhere but as the first index of a batched buffer."""

    def found(e: Expr) -> bool:
        if isinstance(e, Var):
            return e == own
        if isinstance(e, Load):
            rest = e.indices[1:] if e.buffer in batched else e.indices
            return any(found(i) for i in rest)
        return any(found(x) for x in (getattr(e, "a", None), getattr(e, "b", None), getattr(e, "condition", None)) if x)

    for s in build.statements((nest,)):
        if isinstance(s, Store):
            if any(found(i) for i in s.indices[1:]) or found(s.value):
                return True
        elif hasattr(s, "value") and found(s.value):
            return True
    return False
