"""Einsum: sums of products by labelled axes, as matrix products.

Operands are taken two at a time. Labels that both have and that go on are batch axes of one MatMul; the others that go
on are its rows and columns; the rest is summed by it. Of several rows or columns all but one become leading axes that
broadcast, so that no axis is merged with another but those that are summed. Nothing larger than a result is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

from unfoldc.kernels.expansions.einsum_equation import Equation, Label, parse
from unfoldc.kernels.expansions.pieces import reduced, reshaped, squeezed, transposed, unsqueezed
from unfoldc.kernels.expansions.table import Call, Maker, expands

# The order of the products must not change with the number of problems, for which a model is read with 1, 2 and 5.
_SHORT = 8


@dataclass(frozen=True)
class _Term:
    """A value and the labels of its axes."""

    value: str
    labels: tuple[Label, ...]


@expands("Einsum")
def einsum(maker: Maker, call: Call) -> tuple[str, ...]:
    """The equation of `equation`, for one operand or more."""
    shapes = [maker.type(name).shape for name in call.inputs]
    text = call.attributes["equation"]
    equation = parse(text if isinstance(text, str) else text.decode(), shapes)
    terms = [_single(maker, _Term(name, labels)) for name, labels in zip(call.inputs, equation.operands, strict=True)]
    terms = [_spread_short(maker, term, terms, equation) for term in terms]
    while True:
        terms = [_sum_own(maker, t, [*terms[:i], *terms[i + 1 :]], equation.result) for i, t in enumerate(terms)]
        if len(terms) == 1:
            break
        i, j = _next_pair(terms, equation)
        rest = [t for k, t in enumerate(terms) if k not in (i, j)]
        terms = [*rest, _product(maker, terms[i], terms[j], _wanted(terms[i], terms[j], rest, equation))]
    return (_ordered(maker, terms[0], equation.result).value,)


def _single(maker: Maker, term: _Term) -> _Term:
    """The diagonal of axes with the same label."""
    value, labels = term.value, list(term.labels)
    for label in dict.fromkeys(term.labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            value = maker.node("Diagonal", value, axes=[first, second])
            del labels[second]
    return _Term(value, tuple(labels))


def _spread_short(maker: Maker, term: _Term, terms: Sequence[_Term], equation: Equation) -> _Term:
    """Without the axes of length 1 that meet a longer one in a sum; in the result they broadcast by themselves."""
    shape = maker.type(term.value).shape
    axes = [
        a
        for a, label in enumerate(term.labels)
        if shape[a] == 1 and equation.lengths[label] > 1 and label not in equation.result
    ]
    labels = tuple(label for a, label in enumerate(term.labels) if a not in axes)
    return _Term(squeezed(maker, term.value, axes), labels)


def _sum_own(maker: Maker, term: _Term, others: Sequence[_Term], result: Collection[Label]) -> _Term:
    """The sum over the labels that nobody else has or wants."""
    needed = {*result, *(label for other in others for label in other.labels)}
    axes = [a for a, label in enumerate(term.labels) if label not in needed]
    labels = tuple(label for label in term.labels if label in needed)
    return _Term(reduced(maker, "ReduceSum", term.value, axes, 0), labels)


def _wanted(a: _Term, b: _Term, rest: Sequence[_Term], equation: Equation) -> tuple[Label, ...]:
    """The labels that the product of two terms keeps, those of the result first and in its order."""
    needed = {*equation.result, *(label for other in rest for label in other.labels)}
    own = [label for label in dict.fromkeys((*a.labels, *b.labels)) if label in needed]
    return (*(label for label in equation.result if label in own), *(x for x in own if x not in equation.result))


def _next_pair(terms: Sequence[_Term], equation: Equation) -> tuple[int, int]:
    """The two terms whose product costs least and is smallest."""

    def size(labels: Collection[Label]) -> int:
        return prod(n for label in labels if (n := equation.lengths[label]) > _SHORT)

    def price(pair: tuple[int, int]) -> tuple[int, int, int, int]:
        a, b = (terms[k] for k in pair)
        rest = [t for k, t in enumerate(terms) if k not in pair]
        every, kept = {*a.labels, *b.labels}, _wanted(a, b, rest, equation)
        return size(every), size(kept), len(every), len(kept)

    return min(combinations(range(len(terms)), 2), key=price)


def _ordered(maker: Maker, term: _Term, labels: tuple[Label, ...]) -> _Term:
    """The same with its axes in this order."""
    return _Term(transposed(maker, term.value, [term.labels.index(label) for label in labels]), labels)


def _aligned(maker: Maker, term: _Term, places: Sequence[Label]) -> str:
    """The term with an axis for each of these labels, of length 1 where it lacks the label."""
    ordered = _ordered(maker, term, tuple(label for label in places if label in term.labels))
    return unsqueezed(maker, ordered.value, [a for a, label in enumerate(places) if label not in term.labels])


def _product(maker: Maker, a: _Term, b: _Term, wanted: tuple[Label, ...]) -> _Term:
    """The product, summed over the labels that are not wanted, all of which both terms have."""
    summed = [label for label in a.labels if label not in wanted]
    if not summed:
        return _Term(maker.node("Mul", _aligned(maker, a, wanted), _aligned(maker, b, wanted)), wanted)
    if wanted and wanted[-1] in a.labels and wanted[-1] not in b.labels:
        a, b = b, a  # the last axis of the result becomes the columns
    row, column = (
        next((x for x in reversed(wanted) if x in own.labels and x not in other.labels), None)
        for own, other in ((a, b), (b, a))
    )
    leading = [label for label in wanted if label not in (row, column)]
    left = _matrix(maker, a, leading, row, summed, last=True)
    right = _matrix(maker, b, leading, column, summed, last=False)
    value = maker.node("MatMul", left, right)
    empty = [len(leading) + i for i, label in enumerate((row, column)) if label is None]
    labels = (*leading, *(label for label in (row, column) if label is not None))
    return _ordered(maker, _Term(squeezed(maker, value, empty), labels), wanted)


def _matrix(
    maker: Maker, term: _Term, leading: Sequence[Label], own: Label | None, summed: Sequence[Label], last: bool
) -> str:
    """The term as [leading, own, summed], or [leading, summed, own]; the summed axes are one."""
    kept = [] if own is None else [own]
    ordered = _ordered(maker, term, tuple(x for x in (*leading, *kept, *summed) if x in term.labels))
    value = ordered.value
    if len(summed) > 1:
        shape = maker.type(value).shape
        front = len(shape) - len(summed)
        value = reshaped(maker, value, [*shape[:front], prod(shape[front:])])
    missing = [a for a, label in enumerate(leading) if label not in term.labels]
    if own is None:
        missing.append(len(leading))
    value = unsqueezed(maker, value, missing)
    rank = len(leading) + 2
    return value if last else transposed(maker, value, [*range(rank - 2), rank - 1, rank - 2])
