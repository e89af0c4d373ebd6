"""The states: what leaves each iteration because a later one, or the end, reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count, zip_longest

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


@dataclass
class _Row:
    """A state in the making; `name` is None where no marker names it."""

    values: list[str]
    name: str | None = None
    guessed: bool = False
    marked: bool = False


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
    aligned = _align(listing, labels)
    reads = _reads(listing, labels, aligned)
    named = zip_longest(zip(*labels.marked, strict=True), labels.names)
    rows = [_Row(list(values), name, marked=True) for values, name in named]
    for sequence in reads:
        row = _Row([*sequence[1:], ""])
        if not any(_agrees(row.values[:-1], other.values[:-1]) for other in rows):
            rows.append(row)
    for row in rows:
        _complete(listing, labels, aligned, reads, row.values)
    rows = [row for row in rows if any(row.values)]
    marked = sum(1 for row in rows if row.marked)
    _cover(listing, labels, aligned, rows)
    if any(not found and labels.body(k) for k, found in enumerate(aligned.bodies)):
        rows = _joined(listing, rows)
    final = _read_at_end(listing, labels)
    rows[marked:] = sorted(rows[marked:], key=lambda row: row.values[-1] not in final)
    free = (name for name in map("state{}".format, count()) if name not in labels.names)
    return tuple(State(row.name or next(free), tuple(row.values), row.guessed) for row in rows)


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


def _cover(listing: Listing, labels: Labels, aligned: _Aligned, rows: list[_Row]) -> None:
    """Add a row for every value that crosses a border without being in one, as the end's private reads do."""
    last: dict[str, int] = {v: labels.end for v in listing.outputs}
    for op, label in zip(listing.ops, labels.of, strict=True):
        for r in op.reads:
            last[r] = max(label, last.get(r, BEGIN))
    for op, label in zip(listing.ops, labels.of, strict=True):
        for value in op.outputs:
            borders = range(label, last.get(value, BEGIN)) if BEGIN < label < labels.end else range(0)
            missing = [k for k in borders if all(row.values[k] != value for row in rows)]
            if not missing:
                continue
            row = [value if k in missing else "" for k in range(labels.count)]
            if value in aligned.places:
                made_in, place = aligned.places[value]
                lag = missing[-1] - made_in
                for k in range(lag, labels.count):
                    row[k] = row[k] or aligned.value(listing, k - lag, place)
            rows.append(_Row(row))


def _joined(listing: Listing, rows: Sequence[_Row]) -> list[_Row]:
    """Rows that fill each other's gaps with values of one type made one: iterations unlike each other tell no more."""
    result: list[_Row] = []
    for row in rows:
        for other in result:
            types = [listing.types.get(v) for v in (*row.values, *other.values) if v]
            overlap = any(a and b for a, b in zip(row.values, other.values, strict=True))
            if all(t == types[0] for t in types) and not overlap:
                other.values = [a or b for a, b in zip(other.values, row.values, strict=True)]
                other.guessed = True
                break
        else:
            result.append(row)
    return result


def _read_at_end(listing: Listing, labels: Labels) -> set[str]:
    reads = (op.reads for op, label in zip(listing.ops, labels.of, strict=True) if label == labels.end)
    return {*listing.outputs, *(r for values in reads for r in values)}


def resolved(states: Sequence[State], outputs: Sequence[str], names: Sequence[str]) -> tuple[State, ...]:
    """States under the name of the output that shows them, where their name is only a number."""
    result: list[State] = []
    for state in states:
        shown = next((n for v, n in zip(outputs, names, strict=True) if v == state.values[-1] and v), "")
        free = shown and state.name.startswith("state") and all(s.name != shown for s in (*states, *result))
        result.append(replace(state, name=shown) if free else state)
    return tuple(result)
