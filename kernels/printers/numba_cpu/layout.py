"""Where each buffer of a loop program lies when Numba runs it: one workspace, one array of weights per type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.expressions import round_up

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register


@dataclass(frozen=True)
class Layout:
    """`places` maps a buffer to its base, `workspace` or `weights_<dtype>`, and to its offset there in bytes.

    A table of addresses lies `table` bytes into the workspace: of the inputs and outputs, which have no other place,
    and after them of the weights, type by type. `weights` maps a type to its constants, each with its offset in
    elements, and to the number of all elements.
    """

    places: dict[str, tuple[str, int]]
    weights: dict[str, tuple[tuple[tuple[str, int], ...], int]]
    table: int
    workspace_bytes: int


def plan(program: LoopProgram) -> Layout:
    """Lays out the buffers in the order of their names: states, then scratch, then the table."""
    places: dict[str, tuple[str, int]] = {}
    weights: dict[str, tuple[tuple[tuple[str, int], ...], int]] = {}
    end = 0
    for name, buffer in sorted(program.buffers.items()):
        if buffer.space == "constant":
            width = np.dtype(buffer.dtype).itemsize
            entries, start = weights.get(buffer.dtype, ((), 0))
            places[name] = (f"weights_{buffer.dtype}", start * width)
            following = round_up((start + buffer.size) * width, ALIGNMENT) // width
            weights[buffer.dtype] = ((*entries, (name, start)), following)
        elif buffer.space == "state":
            places[name] = ("workspace", end)
            end = round_up(end + buffer.nbytes, ALIGNMENT)
    arena = end
    end = round_up(arena + program.scratch_bytes, ALIGNMENT)
    for name, buffer in sorted(program.buffers.items()):
        if buffer.space == "scratch" and name in program.scratch_offsets:
            places[name] = ("workspace", arena + program.scratch_offsets[name])
        elif buffer.space == "scratch":
            places[name] = ("workspace", end)
            end = round_up(end + buffer.nbytes, ALIGNMENT)
    addresses = len(program.inputs) + len(program.outputs) + len(weights)
    following = round_up(end + 8 * addresses, ALIGNMENT)
    return Layout(places, dict(sorted(weights.items())), end, following)
