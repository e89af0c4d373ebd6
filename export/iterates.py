"""The estimate after every iteration as further outputs: what the solver's end makes of the states at that point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfoldc.errors import ExportError
from unfoldc.export.labels import Labels
from unfoldc.export.listing import Listing, Op
from unfoldc.export.states import State


def add_iterates(
    listing: Listing, labels: Labels, states: Sequence[State], names: Sequence[str]
) -> tuple[Listing, Labels, dict[str, tuple[str, ...]]]:
    """Append `<output>.iterate.<k>`, k = 0 .. K-1, for each output (of the given names) that depends on the iterations.

    Returns the listing, its labels and the names of the new outputs by output.

    Raises:
        ExportError: some iteration does not leave what the end of the solver reads.
    """
    ops = list(listing.ops)
    of = list(labels.of)
    outputs = list(listing.outputs)
    entering = _entering(listing, labels)
    tail = _dependent(listing, labels, entering)
    made = {value for op in tail for value in op.outputs}
    result: dict[str, tuple[str, ...]] = {}
    shown = [(n, v) for n, v in zip(names, listing.outputs, strict=True) if v in made or v in entering]
    for k in range(labels.count):
        image = {v: _after(states, v, k, names[0]) for v in entering}
        if k < labels.count - 1:
            image.update((value, f"{value}.iterate.{k}") for value in made)
            ops += [_clone(op, image, k) for op in tail]
            of += [labels.end] * len(tail)
        for name, value in shown:
            outputs.append(image.get(value, value))
            result[name] = (*result.get(name, ()), f"{name}.iterate.{k}")
    # Outputs stand in the order of their names: all iterates of the first output, then those of the second.
    added = [outputs[len(listing.outputs) + k * len(shown) + j] for j in range(len(shown)) for k in range(labels.count)]
    types = dict(listing.types)
    for value in made:
        types.update((f"{value}.iterate.{k}", types[value]) for k in range(labels.count) if value in types)
    grown = replace(listing, ops=tuple(ops), outputs=(*listing.outputs, *added), types=types)
    return grown, replace(labels, of=tuple(of)), result


def _entering(listing: Listing, labels: Labels) -> dict[str, None]:
    """What the end, or an output, reads of the iterations."""
    inside = {v for op, k in zip(listing.ops, labels.of, strict=True) if 0 <= k < labels.end for v in op.outputs}
    reads = [r for op, k in zip(listing.ops, labels.of, strict=True) if k == labels.end for r in op.reads]
    return dict.fromkeys(r for r in (*reads, *listing.outputs) if r in inside)


def _dependent(listing: Listing, labels: Labels, entering: dict[str, None]) -> list[Op]:
    """The operations of the end that depend on the iterations."""
    live = set(entering)
    found = []
    for op, k in zip(listing.ops, labels.of, strict=True):
        if k == labels.end and live.intersection(op.reads):
            live.update(op.outputs)
            found.append(op)
    return found


def _after(states: Sequence[State], value: str, k: int, output: str) -> str:
    """The value that stands after iteration k where `value` stands after the last one."""
    state = next((s for s in states if s.values[-1] == value and all(s.values) and not s.guessed), None)
    if state is None:
        raise ExportError(
            f"iterates of {output}",
            "what runs after the iterations reads something that not every iteration leaves",
            "iterations that all leave the same states",
            "Mark the iterations with `unfoldc.iterate`, naming all that the end needs, or pass iterates=False.",
        )
    return state.values[k]


def _clone(op: Op, image: dict[str, str], k: int) -> Op:
    reads = tuple(image.get(r, r) for r in op.reads)
    return replace(op, reads=reads, outputs=tuple(image.get(v, v) for v in op.outputs), group=f"iterate.{k}.")
