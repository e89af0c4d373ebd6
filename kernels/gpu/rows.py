"""How lanes read the rows of buffers: whether each reads a row of its own, and whether it reads all of it."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels import build
from unfoldc.kernels.gpu.parts import LANE, All, One, Share, expressions, statements
from unfoldc.kernels.index_bounds import linear
from unfoldc.kernels.loops import Expr, For, Load, Store, Var

_LEAST = 4  # elements of a row that are worth an instruction for several of them


def rows_read(parts: Sequence[Share | All | One]) -> dict[str, str]:
    """For each buffer "none" if no two lanes touch different rows at once, "whole" if they read all of them, "single".

    A row is what lies along the last axis with more than one place.
    """
    found: dict[str, str] = {}
    for part in parts:
        own: set[Expr] = {Var(v) for v in part.variables} if isinstance(part, Share) else set()
        own.add(Var(LANE))
        inside = statements(part.body)
        loops: set[Expr] = {
            Var(s.var) for s in inside if isinstance(s, For) and isinstance(s.extent, int) and s.extent >= _LEAST
        }
        places = [(s.buffer, s.indices) for s in inside if isinstance(s, Store)]
        read = [e for s in part.body for top in expressions(s) for e in build.walk(top) if isinstance(e, Load)]
        for name, indices in (*places, *((e.buffer, e.indices) for e in read)):
            kind = _kind(indices, own, loops)
            if found.get(name, "none") != "single" and kind != "none":
                found[name] = kind
            found.setdefault(name, "none")
    return found


def _kind(indices: Sequence[Expr], own: set[Expr], loops: set[Expr]) -> str:
    varied = [i for i in indices if linear(i).terms]
    if not any(x in own for i in varied[:-1] for x in build.walk(i)):
        return "none"
    terms = {e: f for e, f in linear(varied[-1]).terms.items() if f}
    return "whole" if len(terms) == 1 and set(terms) <= loops and set(terms.values()) == {1} else "single"
