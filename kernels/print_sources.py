"""Loops -> text: schedules or maps a loop program as its target and back end want it, and prints it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unfoldc.kernels.batch_form import side_by_side
from unfoldc.kernels.gpu_build import cuda_artifact_sources, cuda_program, tvm_cuda_artifact_sources
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.passes.load_blocks import load_blocks
from unfoldc.kernels.passes.skip_zeros import skip_zeros
from unfoldc.kernels.printers.c import c_sources
from unfoldc.kernels.printers.numba_cpu import numba_sources
from unfoldc.kernels.printers.tvm import tvm_sources
from unfoldc.kernels.schedule import schedule
from unfoldc.kernels.schedule_choices import ScheduleChoices
from unfoldc.kernels.sweeps import in_sweeps
from unfoldc.kernels.target_spec import TargetSpec

if TYPE_CHECKING:
    from unfoldc.kernels.reading.from_onnx import ImportedModel


@dataclass(frozen=True)
class Printed:
    """The program as it was printed, the sources, and why problems are not solved side by side: "" where they are.

    `one_by_one` is None where there is no such choice.
    """

    program: LoopProgram
    sources: dict[str, str]
    one_by_one: str | None = None


def printed_for_gpu(
    symbol: str, model: ImportedModel, plain: LoopProgram, backend: str, allow_tf32: bool = False
) -> Printed:
    """A program mapped onto the lanes of a GPU instead of scheduled for caches."""
    program = cuda_program(plain)
    if backend == "cuda":
        return Printed(program, cuda_artifact_sources(symbol, program, model.inputs, model.outputs, allow_tf32))
    if backend == "tvm":
        return Printed(program, tvm_cuda_artifact_sources(symbol, program, model.inputs, model.outputs))
    return Printed(program, {})


def printed_for_processor(
    symbol: str,
    model: ImportedModel,
    plain: LoopProgram,
    spec: TargetSpec,
    backend: str,
    choices: ScheduleChoices,
    host: bool,
    sparse: bool = False,
) -> Printed:
    """A program scheduled by these choices; on a host `c` and `tvm` also have it for several problems side by side."""
    swept = in_sweeps(plain, spec, choices=choices)
    scheduled = schedule(skip_zeros(swept) if sparse else swept, spec, choices=choices)
    if backend == "numba":
        return Printed(scheduled, numba_sources(symbol, scheduled, model.inputs, model.outputs))
    if backend not in ("c", "tvm"):
        return Printed(scheduled, {})
    scheduled, wide, lanes, kept_apart = side_by_side(plain, scheduled, model.inputs, spec, choices)
    if backend == "tvm":
        sources, reason = tvm_sources(
            symbol, scheduled, model.inputs, model.outputs, host=host, lanes=wide, lane_count=lanes,
            vector_bits=choices.vector_bits,
        )  # fmt: skip
        return Printed(scheduled, sources, reason or kept_apart)
    if choices.load_blocks:
        buffers = scheduled.buffers
        scheduled = scheduled.mapped(lambda body: load_blocks(body, buffers))
    sources, reason = c_sources(
        symbol, scheduled, model.inputs, model.outputs, host=host, lanes=wide, lane_count=lanes,
        in_order=not host and not choices.has_vectors, load_multiple=choices.load_blocks,
        guarded=not host and spec.vector_bits > 0,
    )  # fmt: skip
    return Printed(scheduled, sources, reason or kept_apart)
