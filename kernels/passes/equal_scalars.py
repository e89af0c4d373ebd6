"""Finds scalars that are equal whatever the inputs are, as two halves of a covariance matrix, and keeps one of them.

Each leaf is given a random element of a finite field and each operation carried out there, where it is exact: two
rational expressions that agree are the same one, but with a probability of about their degree in 2^61 (Schwartz,
Zippel, 1980). Other functions are taken for random ones. Elements of states are first taken for equal where `begin`
makes them so, and told apart as long as an iteration makes them different. Equal scalars must be made of the same
leaves, so that NaN in one of these is in both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from unfoldc.kernels.loops import Binary, Const, Load, Unary
from unfoldc.kernels.passes.scalar_graph import Place, ScalarGraph

_PRIME = (1 << 61) - 1

Print = tuple[int, frozenset[object]]
"""The element of the field, and the leaves."""
Classes = Mapping[Place, object]
"""What elements of states are equal: those with equal labels. Others are equal to none."""


def prints(graph: ScalarGraph, classes: Classes) -> list[Print]:
    """What each operation of a graph is in the field."""
    found: list[Print] = []
    for scalar in graph.scalars:
        if isinstance(scalar.shape, Load):
            place = (scalar.shape.buffer, scalar.shape.indices)
            leaf = classes.get(place, place)
            found.append((_random(leaf), frozenset([leaf])))
            continue
        operands = [found[x] for x in scalar.operands]
        leaves: frozenset[object] = frozenset().union(*(x[1] for x in operands))
        found.append((_value(scalar.shape, [x[0] for x in operands]), leaves))
    return found


def equal_states(begin: ScalarGraph, steps: Sequence[ScalarGraph]) -> dict[Place, object]:
    """Elements of states that are equal before and after each iteration, by a label for each class."""
    first = prints(begin, {})
    moving = {name for graph in steps for name, at in graph.stored if any(not isinstance(i, Const) for i in at)}
    kept = {name for name, b in begin.buffers.items() if b.space == "state"} - moving
    classes: dict[Place, object] = {place: first[n] for place, n in begin.stored.items() if place[0] in kept}
    count = 0
    while count != (count := len(set(classes.values()))):
        labels: dict[object, int] = {}
        classes = {p: labels.setdefault(label, len(labels)) for p, label in classes.items()}
        after = [_after(graph, classes) for graph in steps]
        classes = {p: (label, *(a(p) for a in after)) for p, label in classes.items()}
        # a class keeps its number as long as it stays whole: what was found before is found again
    labels = {}
    return {p: labels.setdefault(label, len(labels)) for p, label in classes.items()}


def _after(graph: ScalarGraph, classes: Classes) -> Callable[[Place], object]:
    known = prints(graph, classes)

    def after(place: Place) -> object:
        number = graph.stored.get(place)
        if number is not None:
            return known[number]
        return (_random(classes[place]), frozenset([classes[place]]))

    return after


def merged(graph: ScalarGraph, classes: Classes) -> ScalarGraph:
    """The graph with one scalar for all that are equal; an element of a state is read where its class has its first."""
    known = prints(graph, classes)
    firsts: dict[object, Place] = {}
    for place, label in classes.items():
        firsts.setdefault(label, place)
    result = ScalarGraph(graph.buffers, graph.constants, graph.most, graph.first, origins=graph.origins)
    numbers: list[int] = []
    chosen: dict[Print, int] = {}
    for scalar, own in zip(graph.scalars, known, strict=True):
        if own in chosen and own[1]:
            numbers.append(chosen[own])
            continue
        shape = scalar.shape
        if isinstance(shape, Load) and (shape.buffer, shape.indices) in classes:
            buffer, indices = firsts[classes[(shape.buffer, shape.indices)]]
            shape = Load(buffer, indices, shape.dtype)
        numbers.append(result.add(shape, *(numbers[x] for x in scalar.operands)))
        chosen[own] = numbers[-1]
    result.stored = {place: numbers[n] for place, n in graph.stored.items()}
    return result


def regrouped(graph: ScalarGraph) -> ScalarGraph:
    """The graph with products of three, one of which nothing else reads, by way of products that are there anyhow.

    With `a b` known, `(a c) b` becomes `(a b) c`.
    """
    known = prints(graph, {})
    there = {own for own, scalar in zip(known, graph.scalars, strict=True) if not scalar.is_leaf}
    readers: dict[int, int] = {}
    for number in (*graph.stored.values(), *(x for scalar in graph.scalars for x in scalar.operands)):
        readers[number] = readers.get(number, 0) + 1
    result = ScalarGraph(graph.buffers, graph.constants, graph.most, graph.first, origins=graph.origins)
    numbers: list[int] = []

    def other(number: int) -> tuple[int, int, int] | None:
        shape, operands = graph.scalars[number].shape, graph.scalars[number].operands
        for inner, last in (operands, operands[::-1]) if _is_product(shape) else ():
            if readers[inner] > 1 or not _is_product(graph.scalars[inner].shape):
                continue
            for first, second in (graph.scalars[inner].operands, graph.scalars[inner].operands[::-1]):
                value = known[first][0] * known[last][0] % _PRIME
                if (value, known[first][1] | known[last][1]) in there - {known[inner], known[number]}:
                    return first, last, second
        return None

    for number, scalar in enumerate(graph.scalars):
        found = other(number)
        if found is None:
            numbers.append(result.add(scalar.shape, *(numbers[x] for x in scalar.operands)))
        else:
            first, last, second = (numbers[x] for x in found)
            numbers.append(result.add(scalar.shape, result.add(scalar.shape, first, last), second))
    result.stored = {place: numbers[n] for place, n in graph.stored.items()}
    return merged(result, {})


def _is_product(shape: object) -> bool:
    return isinstance(shape, Binary) and shape.operator == "mul" and shape.dtype.startswith("float")


def _random(label: object) -> int:
    """A number that hangs on the label alone, the same each time."""
    return int.from_bytes(hashlib.blake2b(repr(label).encode(), digest_size=16).digest(), "big") % _PRIME


def _value(shape: object, operands: Sequence[int]) -> int:
    if isinstance(shape, Const) and shape.dtype.startswith(("float", "int")) and abs(shape.value) < float("inf"):
        exact = Fraction(shape.value)
        return exact.numerator * pow(exact.denominator, -1, _PRIME) % _PRIME
    if isinstance(shape, Binary) and shape.dtype.startswith("float"):
        a, b = operands
        if shape.operator in ("add", "sub", "mul"):
            return {"add": a + b, "sub": a - b, "mul": a * b}[shape.operator] % _PRIME
        if shape.operator == "div" and b:
            return a * pow(b, -1, _PRIME) % _PRIME
    if isinstance(shape, Unary) and shape.operator == "neg" and shape.dtype.startswith("float"):
        return -operands[0] % _PRIME
    return _random((shape, tuple(operands)))
