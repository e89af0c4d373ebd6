"""Loops whose runs are the elements of a vector, in C: a vector type and helpers for each width in use."""

from __future__ import annotations

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import For, Let, LoopProgram, Stmt, Store
from unfoldc.kernels.printers.c.expressions import Expressions
from unfoldc.kernels.printers.c.helpers import Helpers
from unfoldc.kernels.printers.c.lane_expressions import LaneExpressions, memory_vector
from unfoldc.kernels.printers.c.turned_copies import turned_copy, turned_copy_text
from unfoldc.kernels.printers.c_api.lane_interface import vector_type
from unfoldc.kernels.printers.c_api.text import C_TYPES

# The functions are inlined: no vector is passed in registers that only some processors have. Sums that were split so
# that additions need not wait for each other stay split.
_HEAD = """\
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif
#if defined(__clang__)
#define @_IN_ORDER _Pragma("clang fp reassociate(off)")
#define @_UNROLL _Pragma("clang loop unroll(full)")
#else
#define @_IN_ORDER
#define @_UNROLL
#endif
"""


class Vectors:
    """Collects the vectors of one C file; `symbol` is the solver's, the rest as for `Helpers`."""

    def __init__(self, symbol: str, program: LoopProgram, freestanding: bool = False, guarded: bool = False) -> None:
        self.symbol, self.program = symbol, program
        self.freestanding, self.guarded = freestanding, guarded
        self._helpers: dict[tuple[int, str], Helpers] = {}
        self._turned: set[str] = set()

    def expressions(self, loop: For, around: Expressions) -> LaneExpressions:
        """Prints what stands in a loop of the kind "lanes"."""
        assert isinstance(loop.extent, int)
        dtype = self._type_of(loop)
        key = (loop.extent, dtype)
        own = f"{self.symbol}_x{loop.extent}"
        helpers = self._helpers.setdefault(key, Helpers(own, self.freestanding, self.guarded))
        inner = LaneExpressions(self.program, around.place, helpers, own, frozenset(), dtype, lane=loop.var)
        inner.ranges = dict(around.ranges) | {loop.var: (0, loop.extent - 1)}
        return inner

    def turned(self, body: tuple[Stmt, ...], around: Expressions) -> str:
        """The call that does what a body does, if that is a copy of a matrix with its axes exchanged; else empty."""
        copy = turned_copy(self.program, body)
        if copy is None:
            return ""
        self._turned.add(copy.dtype)
        places = f"{around.place[copy.to]}, {copy.apart}, {around.place[copy.source]}, {copy.step}"
        return f"{self.symbol}_{copy.dtype}_turned({places}, {copy.rows}, {copy.columns});"

    @property
    def mark(self) -> str:
        """Stands first in the block of such a loop."""
        return f"{self.symbol}_IN_ORDER"

    @property
    def unroll(self) -> str:
        """Stands before a loop of the kind "unroll"."""
        return f"{self.symbol}_UNROLL"

    def texts(self) -> list[str]:
        """The types, and the helpers for them."""
        lines = _HEAD.replace("@", self.symbol).splitlines() if self._helpers else []
        for (count, dtype), helpers in sorted(self._helpers.items(), key=lambda item: item[0]):
            bits = 8 * np.dtype(dtype).itemsize
            size = count * bits // 8
            vector, mask = (vector_type(helpers.symbol, dtype, mask) for mask in (False, True))
            lines += [
                f"#define {helpers.symbol}_LANES {count}",
                f"typedef {C_TYPES[dtype]} {vector} __attribute__((vector_size({size})));",
                f"typedef {vector} {memory_vector(vector)} __attribute__((aligned({bits // 8}), may_alias));",
                f"typedef int{bits}_t {mask} __attribute__((vector_size({size})));",
                *helpers.texts(),
            ]
        return [*lines, *(line for dtype in sorted(self._turned) for line in turned_copy_text(self.symbol, dtype))]

    @staticmethod
    def _type_of(loop: For) -> str:
        inside = build.statements(loop.body)
        return next(s.value.dtype for s in inside if isinstance(s, Let | Store) and s.value.dtype.startswith("float"))
