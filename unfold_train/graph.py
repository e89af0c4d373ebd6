"""What each value depends on: inputs of the call, learned values, the number of the iteration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

INPUT, LEARNED, ITERATION = "input", "learned", "iteration"


def merge_reads(into: dict[str, set[str]], reads: Mapping[str, set[str]]) -> None:
    """Add what one more run read."""
    for name, read in reads.items():
        into.setdefault(name, set()).update(read)


def roots(name: str, reads: Mapping[str, set[str]], cut: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """What a value depends on in the end, as a subset of {INPUT, LEARNED, ITERATION}; empty for a constant.

    `reads` holds, for each name, the names that its formula reads ("k" is the iteration). `cut` holds the names at
    which the walk stops and what they count as.
    """
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name == "k":
            found.add(ITERATION)
        elif name in cut:
            found |= cut[name]
        else:
            waiting.extend(reads.get(name, ()))
    return frozenset(found)


def needed(
    reads: Mapping[str, set[str]], cut: Mapping[str, frozenset[str]], varying: Iterable[str]
) -> dict[str, frozenset[str]]:
    """The values to compute in advance, and what they depend on: those that the solver reads, directly or through
    values that depend on something in `varying`, and that depend on nothing in `varying` themselves."""
    avoid = set(varying)
    fold: dict[str, frozenset[str]] = {}
    seen: set[str] = set()
    waiting = sorted(reads.get("", ()))
    while waiting:
        name = waiting.pop()
        if name in seen or name == "k":
            continue
        seen.add(name)
        depends = roots(name, reads, cut)
        if not depends & avoid:
            fold[name] = depends
        elif name not in cut:
            waiting.extend(sorted(reads.get(name, ())))
    return dict(sorted(fold.items()))
