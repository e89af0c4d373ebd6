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
from unfoldc.kernels.target_spec import TargetSpec

_SHORTEST_DOT = 2  # vectors
_OWN = ("state", "scratch")
_SHORT = 8 * 1024  # bytes: a quarter of the smallest first cache, with room for what else the nests touch


def in_sweeps(program: LoopProgram, spec: TargetSpec, vectors: bool = False) -> LoopProgram:
    """The program with its large values reduced to a few rows; with vectors, operands laid side by side for them.

    `vectors` is for printers that know loops of the kind "lanes": matrices of few columns are stored
    column by column, and nests that fill half a vector each are paired, while they are still apart.
    """
    if spec.vector_bits < 128:
        return fuse_sweeps(program, SweepSizes(large=0, rows=4, line=1))  # memory counts, there is no cache
    lanes = spec.vector_bits // 32
    if vectors:
        program = tall_matrices(program, spec.vector_bits)
        program = pair_results(unit_quotients(program), spec.vector_bits)
    # Compilers that find vectors by themselves find fewer in longer bodies, which pays where memory is what counts.
    if vectors or sum(b.nbytes for b in program.buffers.values() if b.space in _OWN) > spec.first_cache:
        program = results_fused(program)
    packed = pack_operands(fuse_sweeps(program, SweepSizes(line=spec.vector_bits // 8, short=_SHORT)), lanes)
    return block_dots(packed, spec.accumulators * 5 // 4, _SHORTEST_DOT * lanes)
