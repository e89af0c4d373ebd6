"""Decides where buffers live: what lanes own goes to registers first, what they exchange to shared memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from unfoldc.kernels import build
from unfoldc.kernels.gpu.choices import ENOUGH_WARPS, PROCESSOR_SHARED, WARP, GpuChoices
from unfoldc.kernels.gpu.owners import Access, accesses
from unfoldc.kernels.gpu.parts import LANE, All, One, Parts, Share, leaves, statements, touched, writes
from unfoldc.kernels.gpu.places import GIVEN, Place, Region, Rows, lay_out, private_places, row_major
from unfoldc.kernels.gpu.rows import rows_read
from unfoldc.kernels.gpu.staging import Stager, Staging
from unfoldc.kernels.loops import Binary, Buffer, Cast, Const, Expr, For, LoopProgram, Var

_OWN = ("state", "scratch")
_FEW = 4  # elements of an input that each lane has a copy of
_BARRIER_BYTES = 256  # in front of the grid's workspace
_EXCHANGE_BYTES = 256  # in front of shared memory, where warps exchange a scalar each


@dataclass(frozen=True)
class Placement:
    """Places by buffer. `copied` are inputs and constants that are not read where the caller has them."""

    places: Mapping[str, Place]
    copied: tuple[str, ...]
    unbatched: frozenset[str]
    shared: Region
    workspace: Region
    staging: Staging


def place_buffers(
    program: LoopProgram,
    choices: GpuChoices,
    unbatched: frozenset[str],
    begin: Parts,
    steps: Sequence[Parts],
    end: Parts,
) -> Placement:
    """Places for all buffers of a program whose parts these are; `unbatched` ports are the same for all problems."""
    inside = [leaf for parts in steps for leaf in leaves(parts)]
    every = [*leaves(begin), *inside, *leaves(end)]
    found = _by_buffer(every, program.buffers)
    repeated = _by_buffer(inside, program.buffers) if program.iterations > 1 else {}
    places = _private(program, choices, every, found, repeated)
    rest = {n: b for n, b in program.buffers.items() if n not in places and n in found}
    own = {n: b for n, b in rest.items() if b.space in _OWN}
    read = {n: b for n, b in rest.items() if n in repeated and b.space in ("input", "constant")}
    rows = rows_read(every)
    block, group, work = _shared(own, read, unbatched, choices, rows)
    early = _by_buffer([*leaves(begin), *inside], program.buffers)
    stager = Stager(program, choices, places, unbatched, early, _by_buffer(leaves(end), program.buffers))
    staging = stager.stage(block, group, rows, _exchange(choices))
    for name in (*staging.inputs, *staging.outputs):
        rows.pop(name, None)  # they are as they lie in memory
    for name in staging.inputs:
        group.pop(name, None)
        group[stager.home(name)] = program.buffers[name]
    group |= {n: program.buffers[n] for n in staging.outputs if n not in staging.over}
    block |= _read_once(rest, repeated, block, group, choices, rows)
    in_shared, shared = lay_out(block, group, choices, "group", rows, _exchange(choices))
    for name, left in staging.over.items():  # its rows may lie apart, which takes no less
        in_shared[name] = Place("group", row_major(program.buffers[name].shape), in_shared[left].offset)
    first = _BARRIER_BYTES if choices.is_grid else 0
    in_work, workspace = lay_out({}, work, choices, "work", {}, first)
    places = {**places, **in_shared, **in_work}
    given = {n: Place("given") for n in program.buffers if n not in places}
    own_copy = [n for n in places if n in program.buffers and (n not in staging.inputs or GIVEN + n in places)]
    copied = tuple(sorted(n for n in own_copy if program.buffers[n].space in ("input", "constant")))
    return Placement({**places, **given}, copied, unbatched, shared, workspace, staging)


def _by_buffer(parts: Sequence[Share | All | One], buffers: Mapping[str, Buffer]) -> dict[str, list[Access]]:
    found: dict[str, list[Access]] = {}
    for part in parts:
        for access in accesses(part, buffers):
            found.setdefault(access.buffer, []).append(access)
    return found


def _private(
    program: LoopProgram,
    choices: GpuChoices,
    parts: Sequence[Share | All | One],
    found: Mapping[str, Sequence[Access]],
    repeated: Mapping[str, Sequence[Access]],
) -> dict[str, Place]:
    """Buffers that lanes keep to themselves; what one lane would do alone for some of them, all must be able to do."""
    buffers = program.buffers
    fixed, dealt = _fixed_indices(parts)
    own = sorted(n for n in found if buffers[n].space in _OWN)
    read = [n for n in repeated if buffers[n].space in ("input", "constant") and n in fixed]
    if choices.group == 1:  # all lanes read the same elements of a constant at once, which shared memory is good at
        read = [n for n in read if buffers[n].space == "input" or buffers[n].size <= _FEW]
    wanted = [*sorted(own, key=lambda n: buffers[n].nbytes), *sorted(read, key=lambda n: (buffers[n].nbytes, n))]
    alike = {n for n in own if all(not a.store or _first(a) for a in found[n])}
    alike |= {n for n in read if buffers[n].size <= _FEW}
    alike = {n for n in alike if buffers[n].size == 1 or n in fixed - dealt}
    while True:
        places = private_places(found, buffers, choices, frozenset(alike), wanted)
        copied = {n for n, p in places.items() if p.kind == "copy"}
        mixed = set()
        for part in parts:
            written = writes(part.body) if isinstance(part, One) else set()
            if written - copied:
                mixed |= written & copied
        if choices.group == 1 or not mixed:
            return places
        alike -= mixed


def _first(access: Access) -> bool:
    """Whether lane 0 makes it alone."""
    return any(not o.axes for o in access.owners)


def _fixed_indices(parts: Sequence[Share | All | One]) -> tuple[frozenset[str], frozenset[str]]:
    """Buffers read at places that are known when loops are written out, and those where lanes read different places."""
    varied: set[str] = set()
    dealt: set[str] = set()
    read: set[str] = set()
    for part in parts:
        own: set[Expr] = {Var(v) for v in part.variables} if isinstance(part, Share) else set()
        own.add(Var(LANE))
        known: set[Expr] = {
            Var(s.var) for s in statements(part.body) if isinstance(s, For) and isinstance(s.extent, int)
        }
        known |= own - {Var(LANE)}  # registers have no numbers that a lane could compute
        for a in touched(part.body):
            if a.stored:
                continue
            read.add(a.buffer)
            atoms = [x for i in a.indices for x in build.walk(i) if not _is_sum(x)]
            if not all(x in known for x in atoms):
                varied.add(a.buffer)
            if any(x in own for x in atoms):
                dealt.add(a.buffer)
    return frozenset(read - varied), frozenset(dealt)


def _is_sum(e: Expr) -> bool:
    return isinstance(e, Const | Cast) or (isinstance(e, Binary) and e.operator in ("add", "sub", "mul"))


def _shared(
    own: Mapping[str, Buffer],
    read: Mapping[str, Buffer],
    unbatched: frozenset[str],
    choices: GpuChoices,
    rows: Mapping[str, Rows],
) -> tuple[dict[str, Buffer], dict[str, Buffer], dict[str, Buffer]]:
    """What a block has in shared memory, what each of its groups has there, and what is left to the workspace."""
    block: dict[str, Buffer] = {}
    group: dict[str, Buffer] = {}
    work: dict[str, Buffer] = {}
    first = _exchange(choices)
    for name, buffer in sorted(own.items(), key=lambda item: (item[1].nbytes, item[0])):
        larger = {**group, name: buffer}
        if not choices.is_grid and lay_out(block, larger, choices, "group", rows, first)[1].nbytes <= choices.shared:
            group = larger
        else:
            work[name] = buffer
    for name, buffer in sorted(read.items(), key=lambda item: (item[1].nbytes, item[0])):
        of_all = buffer.space == "constant" or name in unbatched
        more = ({**block, name: buffer}, group) if of_all else (block, {**group, name: buffer})
        if not choices.is_grid and lay_out(*more, choices, "group", rows, first)[1].nbytes <= choices.shared:
            block, group = more
    return block, group, work


def _read_once(
    rest: Mapping[str, Buffer],
    repeated: Collection[str],
    block: Mapping[str, Buffer],
    group: Mapping[str, Buffer],
    choices: GpuChoices,
    rows: Mapping[str, Rows],
) -> dict[str, Buffer]:
    """Constants that no iteration reads, for blocks that solve several problems: each problem reads them again.

    They take what other blocks do not need to keep a processor busy.
    """
    found: dict[str, Buffer] = {}
    most = min(choices.shared, PROCESSOR_SHARED * choices.block_threads // (ENOUGH_WARPS * WARP))
    if choices.is_grid or choices.problems == 1:
        return found
    constants = {n: b for n, b in rest.items() if b.space == "constant" and n not in repeated}
    for name, buffer in sorted(constants.items(), key=lambda item: (item[1].nbytes, item[0])):
        more = {**found, name: buffer}
        if lay_out({**block, **more}, group, choices, "group", rows, _exchange(choices))[1].nbytes <= most:
            found = more
    return found


def _exchange(choices: GpuChoices) -> int:
    return _EXCHANGE_BYTES if choices.group > WARP else 0
