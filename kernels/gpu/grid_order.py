"""The order of a grid's parts in which it waits least: what needs no new barrier is done before the next one.

A grid takes about 1.5 us to wait, as long as a million multiply-adds. So of two chains that do not depend on each
other,
say the two factors of a matrix, the parts are done side by side between the same barriers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unfoldc.kernels import build
from unfoldc.kernels.gpu.owners import Access, accesses
from unfoldc.kernels.gpu.parts import Barrier, InStep, One, Part, Parts, Remark, expressions, leaves, statements
from unfoldc.kernels.loops import Assign, Buffer, Let, Local


@dataclass(frozen=True)
class _Piece:
    """Parts that stay together, the last of which computes; what they touch, and the scalars they set and read."""

    parts: Parts
    touched: tuple[Access, ...]
    set_here: frozenset[str]
    read_here: frozenset[str]


def fewest_barriers(parts: Sequence[Part], buffers: Mapping[str, Buffer]) -> Parts:
    """The parts, before barriers are put in, ordered by how many barriers must come before each of them."""
    pieces: list[_Piece] = []
    remarks: list[Part] = []
    for part in parts:
        if isinstance(part, Remark | Barrier):
            remarks.append(part)
            continue
        if isinstance(part, InStep):
            part = InStep(part.variable, part.extent, fewest_barriers(part.body, buffers))
        pieces.append(_piece((*remarks, part), buffers))
        remarks = []
    levels: list[int] = []
    for i, piece in enumerate(pieces):
        needed = (level + _waits(before, piece) for before, level in zip(pieces[:i], levels, strict=True))
        levels.append(max((n for n in needed if n >= 0), default=0))
    pieces = _in_chains(pieces)
    order = sorted(range(len(pieces)), key=lambda i: (levels[i], i))
    return (*(part for i in order for part in pieces[i].parts), *remarks)


def _in_chains(pieces: Sequence[_Piece]) -> list[_Piece]:
    """What lanes do alone, in chains that do not touch what another one writes: each has its own lane."""
    alone = [i for i, piece in enumerate(pieces) if isinstance(piece.parts[-1], One)]
    chains: dict[int, int] = {}
    for i in alone:
        met = {chains[j] for j in chains if _waits(pieces[j], pieces[i]) >= 0}
        chains = {j: min(met) if c in met else c for j, c in chains.items()}
        chains[i] = min(met) if met else max(chains.values(), default=-1) + 1
    numbers = {c: n for n, c in enumerate(sorted(set(chains.values())))}
    result = list(pieces)
    for i, chain in chains.items():
        *remarks, part = pieces[i].parts
        assert isinstance(part, One)
        result[i] = replace(pieces[i], parts=(*remarks, replace(part, chain=numbers[chain])))
    return result


_FREE = -(1 << 30)  # a level that no piece has


def _waits(before: _Piece, after: _Piece) -> int:
    """1 if a barrier is needed between them, 0 if their order matters to each lane alone, very little if not at all."""
    result = _FREE
    if before.set_here & (after.read_here | after.set_here) or before.read_here & after.set_here:
        result = 0
    for a in before.touched:
        for b in after.touched:
            if a.buffer == b.buffer and (a.store or b.store):
                result = max(result, 0 if any(o.is_lane for o in a.owners & b.owners) else 1)
    return result


def _piece(parts: Parts, buffers: Mapping[str, Buffer]) -> _Piece:
    found = leaves(parts)
    bodies = [s for leaf in found for s in leaf.body]
    inside = [s for leaf in found for s in statements(leaf.body)]
    tops = [e for s in bodies for e in expressions(s)]
    tops += [p.extent for p in parts if isinstance(p, InStep) and not isinstance(p.extent, int)]
    touched = tuple(dict.fromkeys(a for leaf in found for a in accesses(leaf, buffers)))
    return _Piece(
        parts,
        touched,
        frozenset(s.name for s in inside if isinstance(s, Let | Assign)),
        frozenset(e.name for top in tops for e in build.walk(top) if isinstance(e, Local)),
    )
