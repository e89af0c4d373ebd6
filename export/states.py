"""The states: what leaves each iteration because a later one, or the end, reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

from unfoldc.export.labels import BEGIN, Labels
from unfoldc.export.listing import Listing
from unfoldc.export.matching import embed, fingerprints

Place = tuple[int, int]


@dataclass(frozen=True)
class State:
    """One tensor carried from iteration to iteration: `values[k]` leaves iteration k, "" where nothing like it does.

    `guessed` says that iterations unlike each other were joined by the type of what leaves them, for want of better.
    """

    name: str
    values: tuple[str, ...]
    guessed: bool = False


@dataclass(frozen=True)
class _Aligned:
    """Iterations laid over the commonest one: `bodies[k][p]` is the operation of iteration k at place p.

    An iteration that runs something else has no entry at all.
    """

    bodies: tuple[dict[int, int], ...]
    places: dict[str, tuple[int, Place]]

    def value(self, listing: Listing, k: int, place: Place) -> str:
        op = self.bodies[k].get(place[0])
        return listing.ops[op].outputs[place[1]] if op is not None else ""


def find_states(listing: Listing, labels: Labels) -> tuple[State, ...]:
    """The states in the order: marked ones, those that the end reads, the others.

    An iteration's reads tell the states apart: where iteration k reads v_k, the state's value after iteration k - 1
    is v_k, unless all v_k were there before the iterations. What the last iteration leaves is found by its place in
    the iteration, or, for a state that only passes a value on (a previous iterate), from the state that it copies.
    """
    if labels.count == 0:
        return ()
    aligned = _align(listing, labels)
    reads = _reads(listing, labels, aligned)
    rows: list[list[str]] = [list(row) for row in zip(*labels.marked, strict=True)]
    marked = len(rows)
    for sequence in reads:
        row = [*sequence[1:], ""]
        if not any(_agrees(row[:-1], other[:-1]) for other in rows):
            rows.append(row)
    for row in rows:
        _complete(listing, labels, aligned, reads, row)
    rows = [row for row in rows if any(row)]
    guessed = _cover(listing, labels, aligned, rows)
    final = _read_at_end(listing, labels)
    head, rest = rows[:marked], rows[marked:]
    rest.sort(key=lambda row: row[-1] not in final)
    return tuple(
        State(name, tuple(row), guessed=any(row is g for g in guessed))
        for name, row in zip(_names(labels, len(rows)), head + rest, strict=True)
    )


def _align(listing: Listing, labels: Labels) -> _Aligned:
    indices = [labels.body(k) for k in range(labels.count)]
    codes = [tuple(code) for code in fingerprints(*([listing.ops[i] for i in body] for body in indices))]
    # The last iteration is no model for the others: what nobody reads is missing from it.
    counts = Counter(codes[:-1] or codes)
    model = max(range(max(1, labels.count - 1)), key=lambda k: (counts[codes[k]], k))
    template = [listing.ops[i] for i in indices[model]]
    bodies = []
    places: dict[str, tuple[int, Place]] = {}
    for k, body in enumerate(indices):
        whole = len(body) == len(template) or k == labels.count - 1
        found = (embed([listing.ops[i] for i in body], template) if whole else None) or {}
        bodies.append({place: body[i] for i, place in found.items()})
        for i, place in found.items():
            for out, value in enumerate(listing.ops[body[i]].outputs):
                places[value] = (k, (place, out))
    return _Aligned(tuple(bodies), places)


def _reads(listing: Listing, labels: Labels, aligned: _Aligned) -> list[tuple[str, ...]]:
    """For every state the values that iterations 0 .. K-1 read, "" for an iteration unlike the others."""
    producers = listing.producers()
    found: dict[tuple[str, ...], None] = {}
    width = max((len(op.reads) for op in listing.ops), default=0)
    for place in sorted({p for body in aligned.bodies for p in body}):
        for index in range(width):
            row = []
            for body in aligned.bodies:
                reads = listing.ops[body[place]].reads if place in body else ()
                row.append(reads[index] if index < len(reads) else "")
            known = {v for v in row if v}
            inside = any(labels.of[producers[v]] == k for k, v in enumerate(row) if v in producers)
            carried = any(v in producers and labels.of[producers[v]] > BEGIN for v in known)
            if carried and not inside:
                found[tuple(row)] = None
    # What the last iteration does not read, because nobody would read the result, is unknown rather than another state.
    complete: list[tuple[str, ...]] = []
    for sequence in sorted(found, key=lambda sequence: sequence.count("")):
        if not any(_agrees(sequence, other) for other in complete):
            complete.append(sequence)
    return [sequence for sequence in found if sequence in complete]


def _agrees(partial: Sequence[str], other: Sequence[str]) -> bool:
    """Whether all known values of the one are those of the other."""
    return all(a == b or not a for a, b in zip(partial, other, strict=True))


def _complete(
    listing: Listing, labels: Labels, aligned: _Aligned, reads: Sequence[tuple[str, ...]], row: list[str]
) -> None:
    """Fill in the values after iterations whose successor does not tell."""
    places = {aligned.places[v][1] for k, v in enumerate(row) if v in aligned.places and aligned.places[v][0] == k}
    copied = [s for s in reads if any(row) and all(s[k] == v for k, v in enumerate(row) if v)]
    for k in range(labels.count):
        if not row[k] and len(places) == 1:
            row[k] = aligned.value(listing, k, next(iter(places)))
        elif not row[k] and not places and copied:
            row[k] = copied[0][k]


def _cover(listing: Listing, labels: Labels, aligned: _Aligned, rows: list[list[str]]) -> list[list[str]]:
    """Put every value that crosses a border into a row, the end's private reads too; returns the guessed rows."""
    guessed = []
    last: dict[str, int] = {v: labels.end for v in listing.outputs}
    for op, label in zip(listing.ops, labels.of, strict=True):
        for r in op.reads:
            last[r] = max(label, last.get(r, BEGIN))
    for op, label in zip(listing.ops, labels.of, strict=True):
        for value in op.outputs:
            borders = range(label, last.get(value, BEGIN)) if BEGIN < label < labels.end else range(0)
            missing = [k for k in borders if all(row[k] != value for row in rows)]
            if not missing:
                continue
            known = value in aligned.places
            row = None if known else _row_of_its_type(listing, rows, value, missing)
            if row is None:
                row = [""] * labels.count
                rows.append(row)
            elif any(row):
                guessed.append(row)
            for k in missing:
                row[k] = value
            if known:
                made_in, place = aligned.places[value]
                lag = missing[-1] - made_in
                for k in range(lag, labels.count):
                    row[k] = row[k] or aligned.value(listing, k - lag, place)
    return guessed


def _row_of_its_type(
    listing: Listing, rows: Sequence[list[str]], value: str, missing: Sequence[int]
) -> list[str] | None:
    for row in rows:
        types = [listing.types.get(v) for v in (value, *filter(None, row))]
        if not any(row[k] for k in missing) and all(t == types[0] for t in types):
            return row
    return None


def _read_at_end(listing: Listing, labels: Labels) -> set[str]:
    reads = (op.reads for op, label in zip(listing.ops, labels.of, strict=True) if label == labels.end)
    return {*listing.outputs, *(r for values in reads for r in values)}


def _names(labels: Labels, size: int) -> list[str]:
    """The user's names for marked states, then `state0`, `state1`, ..."""
    free = (name for name in map("state{}".format, count()) if name not in labels.names)
    return [*labels.names, *islice(free, size - len(labels.names))]


def resolved(states: Sequence[State], outputs: Sequence[str], names: Sequence[str]) -> tuple[State, ...]:
    """States under the name of the output that shows them, where their name is only a number."""
    result: list[State] = []
    for state in states:
        shown = next((n for v, n in zip(outputs, names, strict=True) if v == state.values[-1] and v), "")
        free = shown and state.name.startswith("state") and all(s.name != shown for s in (*states, *result))
        result.append(replace(state, name=shown) if free else state)
    return tuple(result)
