"""Chooses loop transformations for a target: the one place that knows which pass suits which machine."""

from __future__ import annotations

from dataclasses import replace

from unfoldc.kernels.loops import LoopProgram, Stmt
from unfoldc.kernels.passes.block_rows import block_rows
from unfoldc.kernels.passes.fuse_results import results_fused
from unfoldc.kernels.passes.fuse_rows import fuse_rows
from unfoldc.kernels.passes.half_products import half_products
from unfoldc.kernels.passes.long_axes import long_axes_last
from unfoldc.kernels.passes.plan_memory import plan_memory
from unfoldc.kernels.passes.split_ranges import split_ranges
from unfoldc.kernels.passes.split_reshaped import split_reshaped
from unfoldc.kernels.passes.start_sums import start_sums
from unfoldc.kernels.passes.sum_columns import sum_columns
from unfoldc.kernels.passes.sweep_columns import sweep_columns
from unfoldc.kernels.passes.tile_results import tile_results
from unfoldc.kernels.passes.unroll_sums import unroll_sums
from unfoldc.kernels.passes.vector_axis import Layouts
from unfoldc.kernels.passes.vector_cost import vector_cost
from unfoldc.kernels.passes.vector_results import vector_results
from unfoldc.kernels.target_spec import TargetSpec

_COLUMNS = 4
_MANY = 16  # sums in registers: where there are fewer, loops that are written out spill what they load early
_CACHE_LINE = 64  # bytes; a vector that crosses its end takes two accesses


def schedule(program: LoopProgram, spec: TargetSpec, lanes: int = 1, vectors: bool = False) -> LoopProgram:
    """The program as the target should run it: rows blocked, columns swept where vectors pay, memory planned.

    lanes > 1 schedules for that many problems side by side: every operation is a vector over problems already, so rows
    are blocked for registers only. `vectors` is for printers that know loops of the kind "lanes".
    """
    if lanes == 1 and spec.vector_bits >= 128:
        buffers = program.buffers
        program = program.mapped(lambda body: fuse_rows(body, buffers))
    if vectors and lanes == 1 and spec.vector_bits >= 128:
        program = half_products(program, spec.vector_bits, 2 * spec.accumulators, spec.first_cache)
        program = results_fused(sum_columns(program, spec.vector_bits).mapped(split_reshaped))
        layouts = Layouts(program)
        program = program.mapped(lambda body: split_ranges(body, layouts, spec.vector_bits))
        program = start_sums(program)

        def vectorised(one: LoopProgram) -> LoopProgram:
            joined = results_fused(one)  # what was split may be joined with what made it
            forms = (one,) if joined == one else (one, joined)
            made = [vector_results(p, spec.vector_bits, spec.accumulators * 3 // 2) for p in forms]
            return min(made, key=vector_cost)

        program = vectorised(long_axes_last(program, spec.vector_bits, vectorised))
        if spec.accumulators >= _MANY:
            program = program.mapped(unroll_sums)
    small = lanes == 1 and spec.vector_bits < 128
    if small:
        program = results_fused(program)
    buffers = dict(program.buffers)

    def transform(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        if lanes > 1:
            return block_rows(body, max(1, spec.accumulators * 3 // 4))  # each row's sum takes two registers
        if spec.vector_bits >= 128:
            body, added = sweep_columns(body, buffers, _COLUMNS, shortest=spec.vector_bits // 32)
            buffers.update(added)
        if small and spec.accumulators >= 4:
            body = tile_results(body, 2)
        return block_rows(body, spec.accumulators)

    # With a vector per element, every place is aligned already.
    alignment = _CACHE_LINE if lanes == 1 and spec.vector_bits >= 128 else 8
    return plan_memory(replace(program.mapped(transform), buffers=buffers), alignment)
