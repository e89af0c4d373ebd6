"""Splits a loop whose variable counts the elements of two axes at once, as where a reshaped value is read.

    for i < 96: y[i] = x[i // 32, i % 32]
becomes
    for o < 3: for i < 32: y[32 o + i] = x[o, i]
so that places move by 1 as a variable does, and no index is divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.index_bounds import linear
from unfoldc.kernels.loops import Binary, Const, Expr, For, Nest, Stmt, Var


def split_reshaped(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """Splits each loop in which all quotients and rests of the variable have one divisor, that of the loop's length."""
    result: list[Stmt] = []
    for s in body:
        if isinstance(s, For):
            s = replace(s, body=split_reshaped(tuple(build.map_stmt(b, _shortened) for b in s.body)))
            length = _row(s)
            result.append(s if length is None else _split(s, length))
        else:
            result.append(replace(s, body=split_reshaped(s.body)) if isinstance(s, Nest) else s)
    return tuple(result)


def _shortened(e: Expr) -> Expr | None:
    """A quotient or rest of a sum without the terms that the divisor divides: (64 o + i) % 32 is i % 32."""
    if not isinstance(e, Binary) or e.operator not in ("floordiv", "mod") or not isinstance(e.b, Const):
        return None
    form, divisor = linear(e.a), int(e.b.value)
    whole = {t: f for t, f in form.terms.items() if f and f % divisor == 0}
    if not whole or form.constant or any(f != 1 for t, f in form.terms.items() if t not in whole):
        return None
    rest: Expr = build.ZERO
    for t in form.terms.keys() - whole.keys():
        rest = build.add(rest, t)
    result = build.binary(e.operator, rest, e.b)
    for t, f in whole.items() if e.operator == "floordiv" else ():
        result = build.add(build.mul(t, build.index(f // divisor)), result)
    return result


def _row(loop: For) -> int | None:
    """The length of the inner axis."""
    tops = build.within(loop.body)
    found = {e.b for e in tops if isinstance(e, Binary) and e.operator in ("floordiv", "mod") and e.a == Var(loop.var)}
    if len(found) != 1 or not isinstance(loop.extent, int) or loop.kind != "serial":
        return None
    (divisor,) = found
    length = int(divisor.value) if isinstance(divisor, Const) else 0
    return length if 1 < length < loop.extent and loop.extent % length == 0 else None


def _split(loop: For, length: int) -> For:
    assert isinstance(loop.extent, int)
    outer, inner = Var(f"{loop.var}_o"), Var(loop.var)
    place = build.add(build.mul(outer, build.index(length)), inner)

    def change(e: Expr) -> Expr | None:
        if isinstance(e, Binary) and e.a == inner and e.operator in ("floordiv", "mod"):
            return outer if e.operator == "floordiv" else inner
        return place if e == inner else None

    rows = replace(loop, extent=length, body=tuple(build.map_stmt(s, change) for s in loop.body))
    return For(outer.name, loop.extent // length, (rows,))
