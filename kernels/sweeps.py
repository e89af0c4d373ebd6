"""Loop nests that are to run as sweeps over large matrices, in the form that a target wants."""

from __future__ import annotations

from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.passes.block_dots import block_dots
from unfoldc.kernels.passes.fuse_results import results_fused
from unfoldc.kernels.passes.fuse_sweeps import SweepSizes, fuse_sweeps
from unfoldc.kernels.passes.pack_operands import pack_operands
from unfoldc.kernels.passes.pair_results import pair_results
from unfoldc.kernels.passes.tall_matrices import tall_matrices
from unfoldc.kernels.passes.unit_quotients import unit_quotients
from unfoldc.kernels.schedule_choices import ScheduleChoices, default_choices
from unfoldc.kernels.target_spec import TargetSpec

_SHORTEST_DOT = 2  # vectors
_OWN = ("state", "scratch")
_SHORT = 8 * 1024  # bytes: a quarter of the smallest first cache, with room for what else the nests touch


def in_sweeps(
    program: LoopProgram, spec: TargetSpec, vectors: bool = False, choices: ScheduleChoices | None = None
) -> LoopProgram:
    """The program with its large values reduced to a few rows; with vectors, operands laid side by side for them.

    `vectors` is for printers that know loops of the kind "lanes": matrices of few columns are stored
    column by column, and nests that fill half a vector each are paired, while they are still apart. `choices` as for
    `schedule`.
    """
    choices = choices or default_choices(spec, vectors)
    bits, lanes = choices.vector_bits, choices.vector_bits // 32
    if choices.vectors and choices.tall:
        program = tall_matrices(program, bits)
    if choices.vectors and choices.pairs:
        program = pair_results(unit_quotients(program), bits)
    if sum(b.nbytes for b in program.buffers.values() if b.space in _OWN) > choices.join_beyond:
        program = results_fused(program)
    if not choices.has_vectors:  # memory counts, there is no cache
        sizes = SweepSizes(choices.sweep_beyond, tile=choices.sweep_tile, large=0, rows=choices.sweep_rows, line=1)
        return fuse_sweeps(program, sizes)
    sizes = SweepSizes(
        choices.sweep_beyond, tile=choices.sweep_tile, rows=choices.sweep_rows, short=_SHORT, line=bits // 8
    )
    swept = fuse_sweeps(program, sizes)
    packed = pack_operands(swept, lanes) if choices.packed else swept
    return block_dots(packed, choices.dots, _SHORTEST_DOT * lanes) if choices.dots else packed
