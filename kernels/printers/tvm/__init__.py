"""Back end `tvm`: loop nests as TIR, with the C interface of back end `c` around them."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.c_api import (
    HOST_ALIGNMENT,
    header_text,
    host_driver_text,
    state_layout,
    weights_texts,
)
from unfoldc.kernels.printers.tvm.printer import IN_ORDER, Form, module_text, print_functions
from unfoldc.kernels.printers.tvm.shim import shim_text

__all__ = ["IN_ORDER", "tvm_sources"]


def tvm_sources(
    symbol: str, program: LoopProgram, inputs: Sequence[Port], outputs: Sequence[Port], *, host: bool
) -> dict[str, str]:
    """`<symbol>.tir`, a script for `tvm.script.from_source`, and the C files to link its object with.

    With `host` there is a driver for this machine's loader, and a C library is taken for granted.
    """
    alignment = HOST_ALIGNMENT if host else 1
    layout = state_layout(program, alignment)
    functions = print_functions(symbol, program, layout, Form(metal="" if host else symbol))
    sources = {
        f"{symbol}.tir": module_text(functions),
        f"{symbol}.h": header_text(symbol, program, layout, inputs, outputs),
        f"{symbol}.c": shim_text(symbol, program, layout, functions),
        **weights_texts(symbol, program, alignment),
    }
    if host:
        sources[f"{symbol}_host.c"] = host_driver_text(symbol, program, inputs, outputs)
    return sources
