"""`<symbol>_lanes.h` and `.c`: the same solver for several problems side by side, one per element of a vector."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.c.functions import Functions
from unfoldc.kernels.printers.c.helpers import Helpers
from unfoldc.kernels.printers.c.lane_expressions import LaneExpressions
from unfoldc.kernels.printers.c.statements import Statements
from unfoldc.kernels.printers.c_api import state_layout
from unfoldc.kernels.printers.c_api.lane_interface import LaneInterface, only_type
from unfoldc.kernels.printers.not_vectorisable import NotVectorisable


def lane_sources(
    symbol: str, program: LoopProgram, inputs: Sequence[Port], outputs: Sequence[Port], count: int
) -> dict[str, str]:
    """The two files; raises NotVectorisable, which says why, for a program that has no such form."""
    dtype = only_type(program)
    if any(not port.batched for port in outputs):
        raise NotVectorisable("an output that all problems share")
    shared = {name for name, port in zip(program.inputs, inputs, strict=True) if not port.batched}
    varying = frozenset(n for n, b in program.buffers.items() if b.space != "constant" and n not in shared)
    layout = state_layout(program)
    own = f"{symbol}_lanes"
    helpers = Helpers(own)
    place = {n: f"{symbol}_{n}" if b.space == "constant" else n for n, b in program.buffers.items()}
    expressions = LaneExpressions(program, place, helpers, symbol, varying, dtype)
    interface = LaneInterface(symbol, program, layout, varying, dtype, count)
    functions = Functions(own, program, layout, interface.heads(), Statements(expressions, ""), str(program.iterations))
    bodies = [*functions.begin(), *functions.iterate(), *functions.end()]
    head = [f"/* {symbol} for several problems at a time. Made by unfoldc. */"]
    head += [f'#include "{own}.h"', f'#include "{symbol}_weights.h"', ""]
    return {
        f"{own}.h": interface.header(),
        f"{own}.c": "\n".join([*head, *helpers.texts(), "", *bodies]),
    }
