"""The equation of an Einsum: which label each axis of each operand has, and which the result keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Label = str
"""A letter, or a number for an axis of the ellipsis, counted from the last one."""


@dataclass(frozen=True)
class Equation:
    """Labels of the operands' axes and of the result's, and the length of each label's axis."""

    operands: tuple[tuple[Label, ...], ...]
    result: tuple[Label, ...]
    lengths: dict[Label, int]


def parse(text: str, shapes: Sequence[tuple[int, ...]]) -> Equation:
    """Reads an equation; raises ValueError where it is none or does not fit the shapes.

    An operand without arrow keeps the labels that occur once, in the order of the alphabet, after the ellipsis.
    """
    left, arrow, right = text.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ValueError(f"{text!r} has {len(terms)} operands, not {len(shapes)}")
    operands = tuple(_labels(term, len(shape)) for term, shape in zip(terms, shapes, strict=True))
    lengths: dict[Label, int] = {}
    for labels, shape in zip(operands, shapes, strict=True):
        for label, n in zip(labels, shape, strict=True):
            known = lengths.get(label, 1)
            if n not in (1, known) and known != 1:
                raise ValueError(f"axis {label!r} of {text!r} has lengths {known} and {n}")
            lengths[label] = max(known, n)
    hidden = sorted((label for label in lengths if label.isdigit()), key=int, reverse=True)
    if arrow:
        dots = len(hidden) * ("..." in right)  # an ellipsis that the result lacks is summed
        kept = _labels(right, dots + len(right.replace("...", "")))
    else:
        letters = [label for labels in operands for label in labels if not label.isdigit()]
        kept = (*hidden, *sorted(label for label in set(letters) if letters.count(label) == 1))
    if len(set(kept)) != len(kept) or not set(kept) <= lengths.keys():
        raise ValueError(f"the result of {text!r} has labels twice or that no operand has")
    return Equation(operands, kept, lengths)


def _labels(term: str, rank: int) -> tuple[Label, ...]:
    before, dots, after = term.partition("...")
    letters = before + after
    if not all(c.isascii() and c.isalpha() for c in letters):
        raise ValueError(f"{term!r} is not a row of letters with at most one ellipsis")
    hidden = rank - len(letters)
    if hidden < 0 or (hidden and not dots):
        raise ValueError(f"{term!r} has {len(letters)} axes for a value with {rank}")
    return (*before, *(str(i) for i in reversed(range(hidden))), *after)
