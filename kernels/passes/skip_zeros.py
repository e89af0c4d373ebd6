"""Skips the columns that a sparse vector multiplies by zero, as after a threshold.

    for i: acc = 0; for j < n: acc += w[i, j] x[j]; y[i] = f(acc)
becomes
    c = 0; for j < n: p[c] = j; c += x[j] != 0
    for i: acc = 0; for q < c: acc += w[i, p[q]] x[p[q]]; y[i] = f(acc)
so that weights which meet a zero are not read. The time then depends on the data: it is done where it was asked for.
The weights are constants without Inf and NaN, and a NaN in x is no zero, so that no NaN gets lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.accesses import writes
from unfoldc.kernels.loops import (
    Assign,
    Binary,
    Buffer,
    Expr,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Nest,
    Step,
    Stmt,
    Store,
    Var,
)

_SHORTEST = 32  # terms; the list costs about as much as two rows of the product


def skip_zeros(program: LoopProgram, shortest: int = _SHORTEST) -> LoopProgram:
    """The program with such lists in its iterations, for vectors that the iterations themselves change."""
    work = _Work(program, dict(program.buffers), shortest)
    steps = tuple(Step(s.first, s.count, work.part(s.body)) for s in program.steps)
    return replace(program, buffers=work.buffers, steps=steps)


@dataclass
class _Work:
    program: LoopProgram
    buffers: dict[str, Buffer]
    shortest: int
    lists: int = 0

    def part(self, body: Sequence[Stmt]) -> tuple[Stmt, ...]:
        result: list[Stmt] = []
        for s in body:
            if isinstance(s, Nest) and len(s.body) == 1 and isinstance(s.body[0], For):
                result.append(self.nest(s, s.body[0]))
            else:
                result.append(s)
        return tuple(result)

    def nest(self, nest: Nest, loop: For) -> Nest:
        """The nest with a list before it, if it multiplies constants by a vector."""
        chain = [loop]
        while len(chain[-1].body) == 1 and isinstance(chain[-1].body[0], For):
            chain.append(chain[-1].body[0])
        written = writes(nest.body)
        for s in chain[-1].body:
            vector = self.vector(s, {c.var for c in chain}, written) if isinstance(s, For) else None
            if vector is not None and isinstance(s, For) and isinstance(s.extent, int):
                listing, shortened = self.listed(s, vector, s.extent)
                inner: tuple[Stmt, ...] = tuple(shortened if b is s else b for b in chain[-1].body)
                for c in reversed(chain):
                    inner = (replace(c, body=inner),)
                return replace(nest, body=(*listing, *inner))
        return nest

    def vector(self, loop: For, around: set[str], written: set[str]) -> Load | None:
        """The element that is multiplied by constants in each run of the loop, the same for all results."""
        if not isinstance(loop.extent, int) or loop.extent < self.shortest or len(loop.body) != 1:
            return None
        (s,) = loop.body
        if not (isinstance(s, Assign) and isinstance(s.value, Binary) and s.value.operator in ("add", "sub")):
            return None
        term = s.value.b
        if s.value.a != Local(s.name, s.value.dtype) or not (isinstance(term, Binary) and term.operator == "mul"):
            return None
        for x, w in ((term.a, term.b), (term.b, term.a)):
            if not (isinstance(x, Load) and isinstance(w, Load) and w.buffer in self.program.constants):
                continue
            used = {v.name for i in x.indices for v in build.walk(i) if isinstance(v, Var)}
            own = self.buffers[x.buffer].space in ("state", "scratch") and x.buffer not in written
            if own and Var(loop.var) in x.indices and not used & around and self.finite(w.buffer):
                return x
        return None

    def finite(self, name: str) -> bool:
        return bool(np.isfinite(self.program.constants[name]).all())

    def listed(self, loop: For, vector: Load, extent: int) -> tuple[list[Stmt], For]:
        """What makes the list, and the loop over it."""
        number = self.lists
        self.lists += 1
        name, count = f"nonzero{number}", f"count{number}"
        self.buffers[name] = Buffer(name, "int32", (extent,), "scratch")
        so_far = Local(count, "int32")
        at = build.binary("min", build.binary("max", so_far, build.ZERO), build.index(extent - 1))
        j = Var(f"{loop.var}_z")
        element = build.map_expr(vector, lambda e: j if e == Var(loop.var) else None)
        differs = build.binary("ne", element, build.literal(0, vector.dtype))
        found = build.cast(differs, "int32")
        body = (Store(name, (at,), j), Assign(count, Binary("add", so_far, found, "int32")))
        listing: list[Stmt] = [Let(count, build.ZERO, mutable=True), For(j.name, extent, body)]
        listed = Local(f"{loop.var}_p", "int32")
        kept = build.binary("max", Load(name, (Var(loop.var),), "int32"), build.ZERO)
        place = Let(listed.name, build.binary("min", kept, build.index(extent - 1)))
        moved = tuple(build.substitute(s, loop.var, _index(listed, extent)) for s in loop.body)
        length = build.binary("min", so_far, build.index(extent))
        return listing, For(loop.var, length, (place, *moved))


def _index(listed: Local, extent: int) -> Expr:
    """The listed place as an index whose bounds show."""
    return build.binary("min", build.binary("max", listed, build.ZERO), build.index(extent - 1))
