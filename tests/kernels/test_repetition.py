"""Iterations that nobody marked: what repeats is found, and where one begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import repetition
from unfoldc.kernels.program import Program
from unfoldc.kernels.repetition import Stretch, find_repetition, stretches


def tokens(text: str) -> np.ndarray:
    return np.array([ord(c) for c in text])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a", []),
        ("abc", []),
        ("xababy", [Stretch(1, 4, 2)]),
        ("xababay", [Stretch(1, 5, 2)]),
        ("aab", [Stretch(0, 1, 1)]),
        ("abcxabc", []),
    ],
)
def test_stretches(text: str, expected: list[Stretch]) -> None:
    assert stretches(tokens(text)) == expected


def test_stretches_against_plain_search() -> None:
    """For each period no longer stretch exists, and the one found does repeat."""
    rng = np.random.default_rng(5)
    for _ in range(50):
        row = rng.integers(0, 2, rng.integers(2, 24))
        found = {s.period: s for s in stretches(row)}
        for period in range(1, len(row) // 2 + 1):
            lengths = [
                b - a
                for a in range(len(row))
                for b in range(a + 2 * period, len(row) + 1)
                if np.array_equal(row[a : b - period], row[a + period : b])
            ]
            assert found[period].length == max(lengths) if lengths else period not in found
            if lengths:
                part = row[found[period].first : found[period].last + 1]
                assert np.array_equal(part[period:], part[:-period])


def chain(workshop: Any, text: str, outputs: int = 1) -> Program:
    """One node per letter, each fed by the one before; the last ones are outputs."""
    operators = {"a": "Tanh", "b": "Sigmoid", "c": "Neg", "x": "Exp", "z": "Abs"}
    g = workshop.Graph(style="none")
    made = [g.input("y", "batch", 4)]
    for letter in text:
        made.append(g(operators[letter], made[-1]))
    program: Program = workshop.imported(g.model(*made[-outputs:])).program
    return program


def labels(program: Program, phase: str = "answer") -> list[int | None]:
    found: list[int | None] = find_repetition(list(program.nodes()), program.types, program.outputs, phase)
    return found


_: int | None = None


@pytest.mark.parametrize(
    ("text", "phase", "expected"),
    [
        ("xababab", "answer", [_, 0, 0, 1, 1, 2, 2]),
        ("babab", "answer", [0, 1, 1, 2, 2]),  # the first may be shorter
        ("babab", "start", [0, 0, 1, 1, 2]),  # half of one is an iteration
        ("cabcabc", "answer", [0, 1, 1, 1, 2, 2, 2]),
        ("cabcabc", "start", [0, 0, 0, 1, 1, 1, _]),  # less than half is none
        ("cabcabc", "rest", [_, 0, 0, 0, 1, 1, 1]),
        ("babab", "rest", [_] * 5),  # nothing to leave out: half of one counts
        ("abab", "rest", [_] * 4),
        ("abab", "start", [0, 0, 1, 1]),
        ("aaaa", "answer", [0, 1, 2, 3]),  # the shortest period
        ("ababzxc", "answer", [0, 0, 1, 1, _, _, _]),
        ("ababzxcab", "answer", [_] * 9),  # what repeats is less than half
        ("abcxz", "answer", [_] * 5),
    ],
)
def test_labels(workshop: Any, text: str, phase: str, expected: list[int | None]) -> None:
    assert labels(chain(workshop, text), phase) == expected


def test_iterations_end_with_what_is_read_behind_them(workshop: Any) -> None:
    program = chain(workshop, "abababa")
    nodes = list(program.nodes())
    for answer, expected in ((5, [0, 0, 1, 1, 2, 2, _]), (4, [0, 1, 1, 2, 2, _, _])):
        assert find_repetition(nodes, program.types, nodes[answer].outputs) == expected


def test_shapes_tell_nodes_apart(workshop: Any) -> None:
    g = workshop.Graph(style="none")
    x = g.input("y", "batch", 4)
    for n in (4, 4, 4, 3):
        x = g("Tanh", g("MatMul", x, g.weight(f"W{n}", g.random("W", 4, n))))
    assert labels(workshop.imported(g.model(x)).program) == [0, 0, 1, 1, 2, 2, _, _]


def test_too_large_a_model_has_no_iterations(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    program = chain(workshop, "ababab")
    monkeypatch.setattr(repetition, "_MOST_NODES", 6)
    assert labels(program) == [0, 0, 1, 1, 2, 2]
    monkeypatch.setattr(repetition, "_MOST_NODES", 5)
    assert labels(program) == [_] * 6
