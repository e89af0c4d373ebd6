"""How lanes read the rows of buffers: whether each reads a row of its own, and whether it reads all of it."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels import build
from unfoldc.kernels.gpu.parts import LANE, All, One, Share, statements, touched
from unfoldc.kernels.gpu.places import Rows
from unfoldc.kernels.index_bounds import linear
from unfoldc.kernels.loops import Expr, For, Var

_LEAST = 4  # elements of a row that are worth an instruction for several of them


def rows_read(parts: Sequence[Share | All | One]) -> dict[str, Rows]:
    """How lanes touch the rows of each buffer, of several ways the one with the shortest rows."""
    found: dict[str, Rows] = {}
    for part in parts:
        own: set[Expr] = {Var(v) for v in part.variables} if isinstance(part, Share) else set()
        own.add(Var(LANE))
        inside = [s for s in statements(part.body) if isinstance(s, For)]
        loops: set[Expr] = {Var(s.var) for s in inside if isinstance(s.extent, int) and s.extent >= _LEAST}
        for a in touched(part.body):
            rows, other = _rows(a.indices, own, loops), found.get(a.buffer, Rows())
            found[a.buffer] = Rows(max(rows.axis, other.axis), rows.whole and other.whole)
    return found


def _rows(indices: Sequence[Expr], own: set[Expr], loops: set[Expr]) -> Rows:
    varied = [a for a, i in enumerate(indices) if linear(i).terms]
    differ = [a for a in varied[:-1] if any(x in own for x in build.walk(indices[a]))]
    if not differ:
        return Rows()
    terms = linear(indices[varied[-1]]).moving
    return Rows(differ[-1], set(terms) <= loops and set(terms.values()) == {1})
