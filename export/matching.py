"""Finding the operations of one iteration in another: the same operators wired the same way, constants aside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unfoldc.export.listing import Listing, Op


def same_operator(a: Op, b: Op) -> bool:
    """Whether two operations do the same to their inputs."""
    return (a.kind, a.attributes, len(a.reads), len(a.outputs)) == (b.kind, b.attributes, len(b.reads), len(b.outputs))


def fingerprints(*bodies: Sequence[Op]) -> list[list[int]]:
    """A number for each operation, equal where the operators and all that leads to them inside their body are."""
    numbers: dict[tuple[Any, ...], int] = {}
    result = []
    for body in bodies:
        made: dict[str, tuple[int, int]] = {}
        prints = []
        for op in body:
            reads = tuple(made.get(r, bool(r)) for r in op.reads)
            number = numbers.setdefault((op.kind, op.attributes, len(op.outputs), reads), len(numbers))
            made.update((value, (number, i)) for i, value in enumerate(op.outputs) if value)
            prints.append(number)
        result.append(prints)
    return result


def embed(small: Sequence[Op], large: Sequence[Op]) -> dict[int, int] | None:
    """Where each operation of `small` stands in `large`, which runs the same and perhaps more; None if it does not.

    The same Python code runs its operations in the same order; the last iteration may lack those that nobody reads.
    """
    ours, theirs = fingerprints(small, large)
    for ahead in (True, False):
        found = _in_order(ours, theirs) if ahead else _in_order(ours[::-1], theirs[::-1])
        if found is None:
            return None
        if not ahead:
            found = {len(ours) - 1 - i: len(theirs) - 1 - j for i, j in found.items()}
        if _wired_alike(small, large, found):
            return found
    return None


def _in_order(ours: Sequence[int], theirs: Sequence[int]) -> dict[int, int] | None:
    found: dict[int, int] = {}
    j = 0
    for i, number in enumerate(ours):
        while j < len(theirs) and theirs[j] != number:
            j += 1
        if j == len(theirs):
            return None
        found[i] = j
        j += 1
    return found


def _wired_alike(small: Sequence[Op], large: Sequence[Op], found: Mapping[int, int]) -> bool:
    image: dict[str, str] = {}
    for i, j in found.items():
        image.update(zip(small[i].outputs, large[j].outputs, strict=True))
    made = {value for op in large for value in op.outputs}
    for i, j in found.items():
        for ours, theirs in zip(small[i].reads, large[j].reads, strict=True):
            if ours in image and image[ours] != theirs:
                return False
            if ours not in image and theirs and theirs in made:
                return False
    return True


def carried(listing: Listing, body: Sequence[int], following: Sequence[int]) -> list[tuple[str, str]]:
    """Pairs of values: what `body` reads where the iteration `following` it reads a value that `body` makes."""
    ops = listing.ops
    made = {value for i in body for value in ops[i].outputs}
    aligned = embed([ops[i] for i in following], [ops[i] for i in body]) or {}
    pairs = []
    for i, j in aligned.items():
        reads = zip(ops[body[j]].reads, ops[following[i]].reads, strict=True)
        pairs += [(old, new) for old, new in reads if new in made]
    return pairs


def match_backward(
    listing: Listing, pairs: Iterable[tuple[str, str]], new: set[int], old: set[int], *, strict: bool
) -> dict[int, int] | None:
    """Operations of `new` and their counterparts in `old`, walking from pairs of values (old, new) to what made them.

    The walk ends where the new value comes from outside `new`: there a state, or what is the same for all iterations,
    enters. With `strict`, any disagreement on the way gives None; without, the walk ends there as well.
    """
    producers, constants = listing.producers(), listing.constants
    found: dict[int, int] = {}
    taken: set[int] = set()
    entering: dict[str, str] = {}
    waiting = list(pairs)
    while waiting:
        before, after = waiting.pop()
        n, o = producers.get(after, -1), producers.get(before, -1)
        if after in constants or not after:
            agree = (before in constants) if after else not before
        elif n not in new:
            agree = entering.setdefault(after, before) == before
        elif n in found or o in taken:
            agree = found.get(n) == o
        else:
            a, b = listing.ops[n], listing.ops[o] if o in old else None
            agree = b is not None and same_operator(a, b) and a.outputs.index(after) == b.outputs.index(before)
            if agree and b is not None:
                found[n] = o
                taken.add(o)
                waiting += zip(b.reads, a.reads, strict=True)
        if strict and not agree:
            return None
    return found


def match_forward(
    listing: Listing, body: Sequence[int], tail: Sequence[int], image: Mapping[str, str], known: Mapping[int, int]
) -> dict[int, int]:
    """Operations of `body`, an iteration, and their counterparts in `tail`, where the next and last one hides.

    `image` maps values that enter the body to those that enter the last iteration; `known` is part of the answer.
    """
    ops, image, found = listing.ops, dict(image), dict(known)
    for a, b in found.items():
        image.update(zip(ops[a].outputs, ops[b].outputs, strict=True))
    made = {value for i in body for value in ops[i].outputs}

    def fits(ours: str, theirs: str) -> bool:
        if ours in image:
            return image[ours] == theirs
        if ours in listing.constants or not ours:
            return theirs in listing.constants if ours else not theirs
        # From outside: the same for all iterations, or a state that the body has renewed.
        return ours not in made and (theirs == ours or theirs in made)

    taken = set(found.values())
    for a in body:
        if a in found:
            continue
        for b in tail:
            if b not in taken and same_operator(ops[a], ops[b]) and all(map(fits, ops[a].reads, ops[b].reads)):
                found[a] = b
                taken.add(b)
                image.update(zip(ops[a].outputs, ops[b].outputs, strict=True))
                break
    return found
