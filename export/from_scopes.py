"""Labels from the items of a ModuleList: the exporter writes down in which module each operation ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from unfoldc.export.labels import BEGIN, Labels
from unfoldc.export.listing import Listing, Op
from unfoldc.export.matching import carried, embed, fingerprints, match_backward, match_forward


def called_items(listing: Listing, path: str) -> list[tuple[int, range]]:
    """The items of the list at `path` as they ran, each with the stretch from its first to its last operation."""
    runs: list[tuple[int, range]] = []
    for i, op in enumerate(listing.ops):
        k = _item(op, path)
        if k is None:
            continue
        if runs and runs[-1][0] == k:
            runs[-1] = (k, range(runs[-1][1].start, i + 1))
        else:
            runs.append((k, range(i, i + 1)))
    return runs


def _item(op: Op, path: str) -> int | None:
    return next((int(scope.rpartition(".")[2]) for scope in op.scope if _is_item(scope, path)), None)


def runs_inside(listing: Listing, path: str, outer: str) -> bool:
    """Whether the items of the list at `path` run in those of the other list, and only there."""

    def depth(op: Op, which: str) -> int:
        return next((i for i, scope in enumerate(op.scope) if _is_item(scope, which)), len(op.scope))

    return all(depth(op, outer) < depth(op, path) for op in listing.ops if depth(op, path) < len(op.scope))


def _is_item(scope: str, path: str) -> bool:
    head, _, index = scope.rpartition(".")
    return head == path and index.isdecimal()


def label_by_scopes(listing: Listing, path: str) -> Labels:
    """The labels of a listing in which items 0, 1, ... of `path` ran in order.

    What the outer module runs between two items belongs to the iteration before (the end of a loop's body), unless more
    iterations are alike when what also runs in front of item 0 is given to the iteration after (the start of the body).
    """
    items = [stretch for _, stretch in called_items(listing, path)]
    gaps = [
        range(a, b)
        for a, b in zip((0, *(s.stop for s in items)), (*(s.start for s in items), len(listing.ops)), strict=True)
    ]
    trailing = _label(listing, items, gaps, leading=set())
    leading = _leading(listing, items, gaps)
    if leading:
        both = _label(listing, items, gaps, leading)
        if _alike(listing, both) > _alike(listing, trailing):
            return both
    return trailing


def _label(listing: Listing, items: Sequence[range], gaps: Sequence[range], leading: set[int]) -> Labels:
    count = len(items)
    of = [BEGIN] * len(listing.ops)
    for k, item in enumerate(items):
        for i in item:
            of[i] = k
    for k, gap in enumerate(gaps):
        for i in gap:
            of[i] = k if i in leading else count if k == count else k - 1
    labels = Labels(count, tuple(of))
    if count > 1:
        body, tail = labels.body(count - 2), [*labels.body(count - 1), *gaps[count]]
        known = _counterparts(listing, items[-2], items[-1])
        found = match_forward(listing, body, tail, {}, known)
        for b in found.values():
            of[b] = count - 1
    return _start_together(listing, Labels(count, tuple(of)))


def _counterparts(listing: Listing, a: Sequence[int], b: Sequence[int]) -> dict[int, int]:
    """Operations of `a` and the same ones of `b`, of which either may run more than the other."""
    ours, theirs = [listing.ops[i] for i in a], [listing.ops[i] for i in b]
    found = embed(ours, theirs)
    if found is None:
        found = {i: j for j, i in (embed(theirs, ours) or {}).items()}
    return {a[i]: b[j] for i, j in found.items()}


def _leading(listing: Listing, items: Sequence[range], gaps: Sequence[range]) -> set[int]:
    """What runs in front of every item, item 0 included, to make what the item reads."""
    ops, producers = listing.ops, listing.producers()
    result: set[int] = set()
    heads = []
    for k in range(1, len(items)):
        pairs = []
        for a, b in _counterparts(listing, items[0], items[k]).items():
            pairs += [(v, w) for v, w in zip(ops[a].reads, ops[b].reads, strict=True) if producers.get(w) in gaps[k]]
        found = match_backward(listing, pairs, set(gaps[k]), set(gaps[0]), strict=False) or {}
        heads.append(set(found.values()))
        result.update(found)
    return result | heads[0] if heads and heads[0] and all(h == heads[0] for h in heads) else set()


def _alike(listing: Listing, labels: Labels) -> int:
    """How many iterations run exactly the same operations."""
    bodies = fingerprints(*([listing.ops[i] for i in labels.body(k)] for k in range(labels.count)))
    return max(Counter(map(tuple, bodies)).values())


def _start_together(listing: Listing, labels: Labels) -> Labels:
    """What item 0 computes once for all iterations (a cached product) belongs to `begin`."""
    if labels.count < 3:
        return labels
    first, second, third = (labels.body(k) for k in range(3))
    found = match_backward(listing, carried(listing, second, third), set(second), set(first), strict=True)
    if not found or len(found) < len(second):
        return labels
    kept = set(found.values())
    extra = set(first) - kept
    producers = listing.producers()
    if any(producers.get(r) in kept for i in extra for r in listing.ops[i].reads):
        return labels
    of = (BEGIN if i in extra else label for i, label in enumerate(labels.of))
    return replace(labels, of=tuple(of))
