"""Parts sums from what is computed of them, where the sums cannot be vectors and functions of them could.

    for i: acc = 0; for j: acc += t[i, j] v[j]; y[i] = exp(acc)
becomes
    for i: acc = 0; for j: acc += t[i, j] v[j]; e[i] = acc
    for i: y[i] = exp(e[i])
since a function of one number costs as much as one of a whole vector.
"""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Binary, Buffer, Expr, For, Let, Load, Local, Stmt, Store, Unary, Var

_DEAR = frozenset({"exp", "log", "tanh", "erf", "sin", "cos", "sqrt", "pow", "div"})
_FEWEST = 4  # results


def split_epilogue(loops: Sequence[For], body: Sequence[Stmt], name: str) -> tuple[Buffer, Stmt, Stmt] | None:
    """The buffer for the sums, the loops that fill it and the loops that use it; None where that does not pay.

    `loops` stand directly inside one another around `body`, and their runs are independent of each other.
    """
    last = max((i for i, s in enumerate(body) if isinstance(s, For)), default=-1)
    sums = [s for s in body if isinstance(s, Let) and s.mutable]
    results = 1
    for loop in loops:
        results *= loop.extent if isinstance(loop.extent, int) else 0
    behind = body[last + 1 :]
    if last < 0 or len(sums) != 1 or results < _FEWEST or any(isinstance(s, Assign) for s in behind):
        return None
    if not any(_dear(e) for e in build.within(behind)):
        return None
    (total,) = sums
    at = tuple(Var(loop.var) for loop in loops)
    extents = tuple(loop.extent for loop in loops if isinstance(loop.extent, int))
    buffer = Buffer(name, total.value.dtype, extents, "scratch")
    read = Load(name, at, buffer.dtype)

    def change(e: Expr) -> Expr | None:
        return read if e == Local(total.name, buffer.dtype) else None

    before = [s for s in body[: last + 1] if isinstance(s, Let) and s is not total]
    uses = (*before, *(build.map_stmt(s, change) for s in behind))
    fills = (*body[: last + 1], Store(name, at, Local(total.name, buffer.dtype)))
    (filled,), (used,) = build.around(loops, fills), build.around(loops, uses)
    return buffer, filled, used


def _dear(e: Expr) -> bool:
    return isinstance(e, Unary | Binary) and e.operator in _DEAR and e.dtype.startswith("float")
