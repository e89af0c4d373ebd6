"""The solver for several problems side by side: functions of TVM's on vectors of problems, and the C around them."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.c_api import state_layout
from unfoldc.kernels.printers.c_api.lane_interface import LaneInterface, only_type
from unfoldc.kernels.printers.not_vectorisable import NotVectorisable
from unfoldc.kernels.printers.tvm.forms import Form, Functions
from unfoldc.kernels.printers.tvm.functions import print_functions
from unfoldc.kernels.printers.tvm.shim import lane_shim_text


def lane_functions(
    symbol: str, program: LoopProgram, inputs: Sequence[Port], outputs: Sequence[Port], count: int, estimates: bool
) -> tuple[Functions, dict[str, str]]:
    """The functions, and `<symbol>_lanes.h` and `.c`, which call them.

    `estimates`: the processor has one of 1 / sqrt(x). Raises NotVectorisable, which says why, for a program that has
    no such form.
    """
    dtype = only_type(program)
    if any(not port.batched for port in outputs):
        raise NotVectorisable("an output that all problems share")
    shared = {name for name, port in zip(program.inputs, inputs, strict=True) if not port.batched}
    varying = frozenset(n for n, b in program.buffers.items() if b.space != "constant" and n not in shared)
    layout = state_layout(program)
    own = f"{symbol}_lanes"
    functions = print_functions(
        own, program, layout, Form(estimates=estimates, lanes=count, varying=varying, dtype=dtype)
    )
    interface = LaneInterface(symbol, program, layout, varying, dtype, count)
    return functions, {f"{own}.h": interface.header(), f"{own}.c": lane_shim_text(interface, functions)}
