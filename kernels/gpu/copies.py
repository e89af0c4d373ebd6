"""Copies of inputs and constants into registers and shared memory."""

from __future__ import annotations

from unfoldc.kernels import build
from unfoldc.kernels.gpu.choices import GpuChoices
from unfoldc.kernels.gpu.parts import All, Part, Parts, Share, nested_loops
from unfoldc.kernels.gpu.placement import Placement
from unfoldc.kernels.gpu.places import GIVEN, Place
from unfoldc.kernels.loops import Buffer, Load, LoopProgram, Store, Var


def copy_parts(program: LoopProgram, placed: Placement, choices: GpuChoices) -> tuple[Parts, Parts, Parts]:
    """What fills shared memory of the block, what fills registers, both once, and what is copied for each problem."""
    once: list[Part] = []
    own: list[Part] = []
    load: list[Part] = []
    for name in placed.copied:
        place, buffer = placed.places[name], program.buffers[name]
        part = _copy(buffer, place, choices)
        if buffer.space == "input" and name not in placed.unbatched:
            load.append(part)
        elif place.kind == "block":
            once.append(part)
        else:
            own.append(part)
    return tuple(once), tuple(own), tuple(load)


def _copy(buffer: Buffer, place: Place, choices: GpuChoices) -> Part:
    variables = [f"{buffer.name}_{a}" if n > 1 else "" for a, n in enumerate(buffer.shape)]
    at = tuple(Var(v) if v else build.ZERO for v in variables)
    store = Store(buffer.name, at, Load(GIVEN + buffer.name, at, buffer.dtype))
    axes = [a for a, v in enumerate(variables) if v]
    dealt = axes if place.owner is None else list(place.owner.axes)
    rest = [] if place.owner is None else [(variables[a], buffer.shape[a]) for a in axes if a not in dealt]
    if place.kind == "copy" or not dealt:
        return All(nested_loops([(variables[a], buffer.shape[a]) for a in axes], (store,)))
    team = 1 if place.owner is None else place.owner.team
    names, extents = tuple(variables[a] for a in dealt), tuple(buffer.shape[a] for a in dealt)
    return Share(names, extents, nested_loops(rest, (store,)), team)
