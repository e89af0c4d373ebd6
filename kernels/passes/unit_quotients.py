"""Divides a constant of zeros and ones by a number with one division: 1 / s once, then a product for each element.

For elements 0, 1 and -1 the product is the quotient, also for infinite s and NaN, as long as subnormal numbers count as
zero. Solvers start from an identity matrix over a norm.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Binary, Expr, Load, LoopProgram, Step, Stmt, Var


def unit_quotients(program: LoopProgram) -> LoopProgram:
    """The program with such quotients as products."""
    units = {n for n, value in program.constants.items() if value.size > 1 and np.isin(value, (-1, 0, 1)).all()}

    def change(e: Expr) -> Expr | None:
        if not isinstance(e, Binary) or e.operator != "div" or not isinstance(e.a, Load) or e.a.buffer not in units:
            return None
        if not e.dtype.startswith("float") or _variables(e.a) <= _variables(e.b):
            return None
        return build.mul(e.a, build.binary("div", build.literal(1, e.dtype), build.map_expr(e.b, change)))

    def part(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(build.map_stmt(s, change) for s in body)

    steps = tuple(Step(s.first, s.count, part(s.body)) for s in program.steps)
    return replace(program, begin=part(program.begin), steps=steps, end=part(program.end))


def _variables(e: Expr) -> set[str]:
    return {x.name for x in build.walk(e) if isinstance(x, Var)}
