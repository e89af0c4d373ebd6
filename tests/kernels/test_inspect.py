from __future__ import annotations

import json
from typing import Any

import pytest

from unfoldc.errors import ModelError
from unfoldc.kernels.expansions import EXPANSIONS
from unfoldc.kernels.inspect import describe, operator_names
from unfoldc.kernels.operators import INTERNAL_OPERATORS, OPERATORS
from unfoldc.kernels.reading.sequences import SEQUENCE_OPERATORS


def test_a_rolled_model(workshop: Any) -> None:
    found = describe(workshop.saved("copied_weights", 4))
    assert found.rolled and found.iterations == 4 and not found.not_rolled
    (segment,) = found.segments
    assert (segment.first, segment.count, segment.per_iteration_constants) == (0, 4, 0)
    once = 4 * (4 * 6 + 6 * 6)
    assert found.stored_bytes == once  # the threshold is a number in the code
    assert found.weight_bytes > 4 * once
    assert found.inputs == ("y [4] float32 per problem",)
    text = str(found)
    for part in (
        "copied_weights.4.onnx: 4 iterations, found by the names written by export_onnx",
        "iterations 0-3",
        "rolled into one iteration",
        "computed once in begin: iteration.0/MatMul_",
        "early stop: after any iteration",
    ):
        assert part in text


def test_what_did_not_roll(workshop: Any) -> None:
    found = describe(workshop.saved("width_changes", 4))
    assert not found.rolled
    assert [(s.first, s.count) for s in found.segments] == [(0, 2), (2, 1), (3, 1)]
    text = str(found)
    assert "not rolled into one iteration:\n    iteration 2 differs from iteration 0" in text
    assert "iteration 2  " in text
    assert "early stop: the answer is made from a value that iteration 0 does not update" in text


def test_no_boundaries(workshop: Any) -> None:
    assert "4 iterations, found by operations that repeat" in str(describe(workshop.saved("no_boundaries", 4)))
    assert "1 iterations, found by nothing: the whole graph counts as one" in str(
        describe(workshop.saved("no_boundaries", 1))
    )


def test_as_json(solver: Any, workshop: Any) -> None:
    found = describe(workshop.saved(solver.name, 4))
    data = json.loads(found.to_json())
    assert data["iterations"] == found.iterations == sum(s["count"] for s in data["segments"])
    assert data["rolled"] == found.rolled == (len(data["segments"]) == 1)
    assert str(found).count("\n") >= 10


def test_hostile_names_stay_on_their_line(workshop: Any) -> None:
    g = workshop.Graph()
    x = g.input("y\n\x1b[31m", "batch", 4)
    text = str(describe(workshop.save(g.model(g("Tanh", x), metadata="{}"))))
    assert all(line.isprintable() for line in text.split("\n"))
    assert len(text.split("\n")) == len(str(describe(workshop.saved("no_boundaries", 1))).split("\n"))


def test_errors_are_those_of_the_compiler(workshop: Any) -> None:
    g = workshop.Graph()
    with pytest.raises(ModelError, match="Frobnicate is not known"):
        describe(workshop.save(g.model(g("Frobnicate", g.input("y", 4)))))


def test_operator_names() -> None:
    own = {"Constant", "CastLike", "Dropout", "If", "Loop", "Scan", *SEQUENCE_OPERATORS}
    assert {*OPERATORS, *EXPANSIONS, *own} - INTERNAL_OPERATORS == set(operator_names())
    assert operator_names() == sorted(operator_names())
