"""Chooses loop transformations for a target: the one place that knows which pass suits which machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from unfoldc.kernels.loops import LoopProgram, Stmt
from unfoldc.kernels.passes.block_rows import block_rows
from unfoldc.kernels.passes.chain_sums import chain_sums
from unfoldc.kernels.passes.fuse_results import results_fused
from unfoldc.kernels.passes.fuse_rows import fuse_rows
from unfoldc.kernels.passes.half_products import half_products
from unfoldc.kernels.passes.long_axes import long_axes_last
from unfoldc.kernels.passes.plan_memory import plan_memory
from unfoldc.kernels.passes.result_blocks import BlockShape
from unfoldc.kernels.passes.share_terms import share_terms
from unfoldc.kernels.passes.split_ranges import split_ranges
from unfoldc.kernels.passes.split_reshaped import split_reshaped
from unfoldc.kernels.passes.start_sums import start_sums
from unfoldc.kernels.passes.straight_line import straight_line
from unfoldc.kernels.passes.sum_columns import sum_columns
from unfoldc.kernels.passes.sweep_columns import sweep_columns
from unfoldc.kernels.passes.tile_results import tile_results
from unfoldc.kernels.passes.triangle_products import triangle_products
from unfoldc.kernels.passes.unroll_results import unroll_results
from unfoldc.kernels.passes.unroll_sums import unroll_sums
from unfoldc.kernels.passes.unroll_terms import unroll_terms
from unfoldc.kernels.passes.vector_axis import Layouts
from unfoldc.kernels.passes.vector_cost import vector_cost
from unfoldc.kernels.passes.vector_results import vector_results
from unfoldc.kernels.schedule_choices import NEVER, ScheduleChoices, default_choices
from unfoldc.kernels.target_spec import TargetSpec

Pass = Callable[[LoopProgram], LoopProgram]

_CACHE_LINE = 64  # bytes; a vector that crosses its end takes two accesses


def schedule(
    program: LoopProgram,
    spec: TargetSpec,
    lanes: int = 1,
    vectors: bool = False,
    choices: ScheduleChoices | None = None,
) -> LoopProgram:
    """The program as the target should run it: rows blocked, columns swept where vectors pay, memory planned.

    lanes > 1 schedules for that many problems side by side: every operation is a vector over problems already, so rows
    are blocked for registers only. `vectors` is for printers that know loops of the kind "lanes". `choices` say what
    else there is to decide; None: what is known to do well (and `vectors` counts only then).
    """
    choices = choices or default_choices(spec, vectors)
    if lanes > 1:  # with a vector per element, every place is aligned already
        return plan_memory(program.mapped(partial(block_rows, rows=choices.wide_rows)))
    written = _straight(program, choices) if choices.straight else None
    if written is not None:
        return written
    for chosen, change in _nest_passes(choices, 2 * spec.accumulators):
        program = change(program) if chosen else program
    return plan_memory(_in_loops(program, choices), _CACHE_LINE if choices.has_vectors else 8)


def _nest_passes(choices: ScheduleChoices, registers: int) -> list[tuple[bool, Pass]]:
    """What changes whole nests, in this order, each with whether it is to; `registers`: how many vectors there are."""

    def rows_fused(program: LoopProgram) -> LoopProgram:
        return program.mapped(lambda body: fuse_rows(body, program.buffers, choices.fuse_rows_beyond))

    return [
        (choices.fuse_rows_beyond != NEVER, rows_fused),
        (choices.vectors, lambda program: _in_vectors(program, choices, registers)),
        (choices.early_sums and not choices.vectors, start_sums),
        (choices.joined, results_fused),
        (choices.chained, chain_sums),
        (choices.shared_terms, share_terms),
        (choices.triangles > 1, lambda program: triangle_products(program, choices.triangles)),
    ]


def _in_loops(program: LoopProgram, choices: ScheduleChoices) -> LoopProgram:
    """The program with loops over rows, columns and terms as a processor should run them."""
    buffers = dict(program.buffers)

    def transform(body: tuple[Stmt, ...], of_one_sum: int = 0) -> tuple[Stmt, ...]:
        if choices.columns:
            body, added = sweep_columns(body, buffers, choices.columns, shortest=max(4, choices.vector_bits // 32))
            buffers.update(added)
        if choices.tile > 1:
            body = tile_results(body, choices.tile)
        body = block_rows(body, choices.rows, of_one_sum=of_one_sum)
        if choices.runs > 1:
            body = unroll_results(body, choices.runs)
        return unroll_terms(body, choices.terms) if choices.terms > 1 else body

    # `begin` and `end` run once: there more rows at once are more code for little.
    steps = tuple(replace(s, body=transform(s.body, choices.rows_of_one_sum)) for s in program.steps)
    begin, end = transform(program.begin), transform(program.end)
    return replace(program, buffers=buffers, begin=begin, steps=steps, end=end)


def _straight(program: LoopProgram, choices: ScheduleChoices) -> LoopProgram | None:
    """The program without loops but that over iterations; None if it is too long for that."""
    blocked = _in_loops(results_fused(start_sums(program)), choices)
    moves = choices.straight_moves / 100
    written = straight_line(blocked, choices.straight, choices.straight_registers, moves, choices.straight_growth)
    return None if written is None else plan_memory(written)


def _in_vectors(program: LoopProgram, choices: ScheduleChoices, registers: int) -> LoopProgram:
    """The program with nests turned into loops of the kind "lanes"; `registers` is how many vectors there are."""
    bits = choices.vector_bits
    program = half_products(program, bits, registers, choices.halves_beyond)
    if choices.column_sums:
        program = sum_columns(program, bits)
    program = results_fused(program.mapped(split_reshaped))
    if choices.borders:
        layouts = Layouts(program)
        program = program.mapped(lambda body: split_ranges(body, layouts, bits))
    program = start_sums(program)
    shape = BlockShape(
        choices.block_vectors, choices.block_rows, choices.in_flight, choices.functions, choices.block_unrolled
    )

    def vectorised(one: LoopProgram) -> LoopProgram:
        joined = results_fused(one)  # what was split may be joined with what made it
        forms = {"never": (one,), "always": (joined,)}.get(choices.join_again, (one, joined))
        forms = forms if len(forms) < 2 or joined != one else (one,)
        made = [vector_results(p, bits, choices.registers, shape) for p in forms]
        return min(made, key=vector_cost)

    program = vectorised(long_axes_last(program, bits, vectorised) if choices.long_axes else program)
    return program.mapped(lambda body: unroll_sums(body, choices.unrolled)) if choices.unrolled else program
