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
from unfoldc.kernels.printers.not_vectorisable import NotVectorisable
from unfoldc.kernels.printers.tvm.forms import IN_ORDER, Form
from unfoldc.kernels.printers.tvm.functions import module_text, print_functions
from unfoldc.kernels.printers.tvm.lanes import lane_functions
from unfoldc.kernels.printers.tvm.shim import shim_text

__all__ = ["IN_ORDER", "tvm_sources"]

_ESTIMATES = 512  # bits: only processors of one family have vectors of this width, and they have estimates


def tvm_sources(
    symbol: str,
    program: LoopProgram,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    host: bool,
    lanes: LoopProgram | None = None,
    lane_count: int = 0,
    vector_bits: int = 0,
) -> tuple[dict[str, str], str]:
    """All sources, and why there is no form for several problems (empty if there is one or none was asked for).

    `<symbol>.tir` is a script for `tvm.script.from_source`, the others the C files to link its objects with. With
    `host` there is a driver for this machine's loader, and a C library is taken for granted. `lanes` is the same solver
    scheduled for `lane_count` problems side by side; both share the weights. `vector_bits` is the width
    of the processor's vectors.
    """
    estimates = host and vector_bits == _ESTIMATES
    alignment = HOST_ALIGNMENT if host else 1
    layout = state_layout(program, alignment)
    functions = print_functions(symbol, program, layout, Form(metal="" if host else symbol, estimates=estimates))
    sources = {
        f"{symbol}.h": header_text(symbol, program, layout, inputs, outputs),
        f"{symbol}.c": shim_text(symbol, program, layout, functions),
        **weights_texts(symbol, program, alignment),
    }
    reason, used = "", 0
    if lanes is not None and lane_count > 1:
        try:
            more, files = lane_functions(symbol, lanes, inputs, outputs, lane_count, estimates)
            functions, used = [*functions, *more], lane_count
            sources.update(files)
        except NotVectorisable as error:
            reason = str(error)
    sources[f"{symbol}.tir"] = module_text(functions)
    if host:
        sources[f"{symbol}_host.c"] = host_driver_text(symbol, program, inputs, outputs, used)
    return sources, reason
