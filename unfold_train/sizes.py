"""Named axes: equal names must have equal sizes, in the given values and in the inputs of a call."""

from __future__ import annotations

from typing import Any

from unfoldc.errors import InputError


class Sizes:
    """The sizes of named axes, and which value each was first seen in."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.known: dict[str, tuple[Any, str]] = {}

    def copy(self) -> Sizes:
        """An independent copy, for the inputs of one call."""
        other = Sizes(self.owner)
        other.known = dict(self.known)
        return other

    def bind(self, name: str, dims: tuple[str, ...], shape: tuple[Any, ...]) -> None:
        """Check `shape` against the named axes and remember those seen for the first time."""
        if not dims:
            return
        where = f"{self.owner}.{name}"
        axes = f"({', '.join(dims)})"
        if len(dims) != len(shape):
            raise InputError(where, f"shape {tuple(shape)}", f"{len(dims)} axes {axes}", "Reshape the array.")
        for axis, size in zip(dims, shape, strict=True):
            expected, source = self.known.setdefault(axis, (size, name))
            if expected != size:
                raise InputError(
                    where,
                    f"shape {tuple(shape)} has {axis} = {size}",
                    f"{axes} with {axis} = {expected}, as in {source}",
                    "Transpose or replace one of the two.",
                )
