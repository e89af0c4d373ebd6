"""Where each buffer lives: with the lanes, in shared memory, in the workspace, or where the caller has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unfoldc.kernels.gpu.choices import GpuChoices
from unfoldc.kernels.gpu.owners import Access, Owner
from unfoldc.kernels.loops import Buffer

_COPIED = 16  # elements that every lane may have a copy of
_ALIGNED = 16  # bytes that one instruction reads
_WORD = 4  # bytes of a bank
_FEW_LANES = 2
_LOCAL = 1024  # words that a lane may have when it is a group by itself


GIVEN = "given_"
"""The caller's array of a buffer that is copied has this in front of its name."""


@dataclass(frozen=True)
class Place:
    """The home of a buffer.

    kind: "lane" (each lane has its elements, by `owner`), "copy" (each lane has all of it), "group" (shared memory, one
    for each problem of the block), "block" (shared memory, one for all), "work" (the workspace, one for each problem
    of the block), "given" (the caller's array). `offset` counts elements from the start of the arrays of this type in
    that memory, or of a group's part of them; `strides` count elements along each axis.
    """

    kind: str
    strides: tuple[int, ...] = ()
    offset: int = 0
    owner: Owner | None = None

    @property
    def is_private(self) -> bool:
        """Whether no other lane can reach it."""
        return self.kind in ("lane", "copy")


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides without gaps."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


@dataclass(frozen=True)
class Rows:
    """How lanes read a buffer: those that read at once differ along `axis` (-1: along the last or none).

    What follows along the later axes is a row; it is read `whole`, several elements at a time, or not.
    """

    axis: int = -1
    whole: bool = True


def spread(shape: Sequence[int], unit: int, rows: Rows) -> tuple[tuple[int, ...], int]:
    """Strides of a buffer in shared memory, and how many elements it takes.

    Rows that different lanes read begin an odd number of elements apart, or, where they are read whole, an odd number
    of `unit` elements: either way lanes find what they read in different banks.
    """
    strides, step = [], 1
    for axis, n in reversed(list(enumerate(shape))):
        if axis == rows.axis:
            step = _up(step, unit) + unit * (_up(step, unit) // unit % 2 == 0) if rows.whole else step + (step + 1) % 2
        strides.append(step)
        step *= n
    last = sum((n - 1) * s for n, s in zip(shape, reversed(strides), strict=True))
    return tuple(reversed(strides)), _up(last + 1, unit)


def words(dtype: str) -> int:
    """Registers of 4 bytes that an element takes."""
    return 2 if np.dtype(dtype).itemsize == 8 else 1


def lane_elements(buffer: Buffer, owner: Owner, group: int) -> int:
    """The elements that each lane keeps."""
    keys = 1
    for a in owner.axes:
        keys *= buffer.shape[a]
    teams = group // owner.team
    return -(-keys // teams) * (buffer.size // keys)


def private_places(
    accesses: Mapping[str, Sequence[Access]],
    buffers: Mapping[str, Buffer],
    choices: GpuChoices,
    alike: frozenset[str],
    wanted: Sequence[str],
) -> dict[str, Place]:
    """Places with the lanes for those of the `wanted` buffers, the first ones first, for which there is room.

    `alike` are buffers that all lanes may write with the same values.
    """
    result: dict[str, Place] = {}
    left = max(choices.private, _LOCAL) if choices.group == 1 else choices.private
    if choices.is_grid:
        return result
    for name in wanted:
        buffer, found = buffers[name], accesses.get(name, ())
        place = _private(buffer, found, choices.group, name in alike)
        if place is None:
            continue
        own = buffer.size if place.owner is None else lane_elements(buffer, place.owner, choices.group)
        if own * words(buffer.dtype) <= left:
            left -= own * words(buffer.dtype)
            result[name] = place
    return result


def _private(buffer: Buffer, found: Sequence[Access], group: int, alike: bool) -> Place | None:
    if not found:
        return None
    if group == 1 or (alike and buffer.size <= _COPIED):
        return Place("copy", row_major(buffer.shape))
    common = frozenset.intersection(*(a.owners for a in found))
    owned = sorted((o for o in common if o.axes), key=lambda o: (len(o.axes), o.axes))
    return Place("lane", owner=owned[0]) if owned else None


def element_type(dtype: str) -> str:
    """The type of an element in memory: a truth value is a byte."""
    return "uint8" if dtype == "bool" else dtype


@dataclass(frozen=True)
class Region:
    """A memory of a block: for each type the elements between one group's part and the next; `nbytes` in all."""

    steps: Mapping[str, int]
    nbytes: int


def lay_out(
    block: Mapping[str, Buffer],
    group: Mapping[str, Buffer],
    choices: GpuChoices,
    kind: str,
    rows: Mapping[str, Rows],
    first: int = 0,
) -> tuple[dict[str, Place], Region]:
    """Places for buffers of a whole block and of each of its groups, the widest types first, from byte `first` on.

    `rows` says of a buffer how lanes read its rows, as for `spread`. Lanes of several groups that read at the same
    place in theirs find it in different banks.
    """
    places: dict[str, Place] = {}
    steps: dict[str, int] = {}
    end = first
    types = {element_type(b.dtype) for b in (*block.values(), *group.values())}
    for dtype in sorted(types, key=lambda d: (-np.dtype(d).itemsize, d)):
        width = np.dtype(dtype).itemsize
        unit = _ALIGNED // width if width >= _WORD else 1
        start = _up(end, _ALIGNED) // width
        for name, buffer in sorted(block.items()):
            if element_type(buffer.dtype) == dtype:
                strides, size = spread(buffer.shape, unit, rows.get(name, Rows()))
                places[name] = Place("block", strides, start)
                start += size
        own = 0
        for name, buffer in sorted(group.items()):
            if element_type(buffer.dtype) == dtype:
                strides, size = spread(buffer.shape, unit, rows.get(name, Rows()))
                places[name] = Place(kind, strides, start + own)
                own += size
        few = choices.group <= _FEW_LANES  # so many groups in a warp that only odd steps lead to different banks
        step = own + (own + 1) % 2 if few else own + unit * (own // unit % 2 == 0)
        steps[dtype] = step if choices.problems > 1 else own
        end = (start + choices.problems * steps[dtype]) * width
    return places, Region(steps, _up(end, _ALIGNED) if end > first else first)


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
