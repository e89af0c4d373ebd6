"""Labels from markers: where iteration 0 starts (marker last in the body) or the last one stops (marker first)."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.export.labels import BEGIN, Labels, regions
from unfoldc.export.listing import Listing
from unfoldc.export.matching import carried, match_backward, match_forward


def label_by_markers(listing: Listing) -> tuple[Labels, str]:
    """The labels of a listing with K markers, and where in the loop's body the markers stand.

    The K markers cut the operations into K + 1 regions. Markers at the end of the body: region k holds iteration k, and
    region 0 what runs before the loop as well; the part that equals region 1 is the iteration. Markers at the start:
    region k + 1 holds iteration k, and the last one what runs after the loop as well; the part that equals the region
    before is the iteration. One marker alone is taken to stand on the side away from the larger region.
    """
    cut = regions(len(listing.ops), [m.at for m in listing.markers])
    if len(listing.markers) == 1:
        at_end = len(_working(listing, cut[0])) >= len(cut[1])
        first = set(_working(listing, cut[0]))
        return (_at_end(listing, cut, first) if at_end else _at_start(listing, cut, set(cut[1]))), _place(at_end)
    found = _first_iteration(listing, cut)
    if found is not None:
        return _at_end(listing, cut, found), _place(True)
    last = _last_iteration(listing, cut)
    if 2 * len(last) >= len(cut[-2]):
        return _at_start(listing, cut, last), _place(False)
    return _at_end(listing, cut, _apart(listing, cut)), _place(True) + "; iteration 0 differs from the others"


def _place(at_end: bool) -> str:
    return f"at the {'end' if at_end else 'start'} of the loop's body"


def _at_end(listing: Listing, cut: Sequence[Sequence[int]], first: set[int]) -> Labels:
    of = [BEGIN] * len(listing.ops)
    for k, region in enumerate(cut):
        for i in region:
            of[i] = k if k or i in first else BEGIN
    marked = tuple(m.before for m in listing.markers)
    return Labels(len(listing.markers), tuple(of), *_kept(listing, marked))


def _at_start(listing: Listing, cut: Sequence[Sequence[int]], last: set[int]) -> Labels:
    count = len(listing.markers)
    of = [BEGIN] * len(listing.ops)
    for k, region in enumerate(cut):
        for i in region:
            of[i] = k - 1 if k < count or i in last else count
    unknown = ("",) * len(listing.markers[0].before)
    marked = (*(m.before for m in listing.markers[1:]), unknown)
    return Labels(count, tuple(of), *_kept(listing, marked))


def _kept(listing: Listing, marked: Sequence[Sequence[str]]) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """Without the marked tensors that no iteration reads; nothing at all if the markers differ in number of tensors."""
    sizes = {len(m.before) for m in listing.markers}
    if len(sizes) != 1:
        return (), ()
    read = [j for j in range(sizes.pop()) if any(m.after[j] for m in listing.markers)]
    names = next((m.names for m in listing.markers if m.names), ())
    return tuple(tuple(values[j] for j in read) for values in marked), tuple(names[j] for j in read if names)


def _first_iteration(listing: Listing, cut: Sequence[Sequence[int]]) -> set[int] | None:
    """The operations of region 0 that are iteration 0, found backwards from its states along region 1."""
    first, second = listing.markers[:2]
    if len(first.before) != len(second.before):
        return None
    pairs = list(zip(first.before, second.before, strict=True))
    if len(cut) > 3:
        pairs += carried(listing, cut[1], cut[2])  # states that pass by the marker
    found = match_backward(listing, pairs, set(cut[1]), set(cut[0]), strict=True)
    if not found:
        return None
    # What reads from iteration 0 cannot run before it: updates of a state that only later iterations read.
    inside = set(found.values())
    made = {value for i in inside for value in listing.ops[i].outputs}
    for i in cut[0]:
        if made.intersection(listing.ops[i].reads):
            inside.add(i)
            made.update(listing.ops[i].outputs)
    return inside


def _last_iteration(listing: Listing, cut: Sequence[Sequence[int]]) -> set[int]:
    """The operations of the last region that are the last iteration, found forwards along the region before."""
    before, last = listing.markers[-2:]
    if len(before.before) != len(last.before):
        return set()
    image = {a: b for a, b in zip(before.after, last.after, strict=True) if a}
    return set(match_forward(listing, cut[-2], cut[-1], image, {}).values())


def _apart(listing: Listing, cut: Sequence[Sequence[int]]) -> set[int]:
    """An iteration 0 unlike the others: region 0 without what later regions read past the marker and start values."""
    ops, producers = listing.ops, listing.producers()
    passing = {producers.get(r, -1) for i in range(len(cut[0]), len(ops)) for r in ops[i].reads}
    before: set[int] = set()
    for i in reversed(cut[0]):
        if i in passing or i in before:
            before.add(i)
            before.update(producers[r] for r in ops[i].reads if r in producers)
    return set(_working(listing, cut[0])) - before


def _working(listing: Listing, region: Sequence[int]) -> list[int]:
    """The operations of a region that compute with an input's or a weight's elements, not only with a shape."""
    live = {*listing.inputs, *listing.parameters}
    found = []
    for i in region:
        op = listing.ops[i]
        # Of these inputs the shape or the type counts, not the elements.
        reads = op.reads[: {"Shape": 0, "Size": 0, "CastLike": 1}.get(op.kind)]
        if live.intersection(reads):
            live.update(op.outputs)
            found.append(i)
    return found
