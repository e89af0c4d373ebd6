"""The join of what every iteration leaves becomes a view of the history; only such views stop early."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.passes.roll_iterations import roll_iterations
from unfoldc.kernels.passes.share_weights import share_weights
from unfoldc.kernels.passes.stack_histories import stack_histories
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.program import Program
from unfoldc.kernels.verify import verify_program

N, K = 3, 5
End = Callable[[Any, list[str]], tuple[str, ...]]


def at(g: Any, axis: int) -> str:
    name: str = g.weight(f"axis {axis}", [axis], "int64")
    return name


def stack(axis: int) -> End:
    return lambda g, xs: (g("Concat", *(g("Unsqueeze", x, at(g, axis)) for x in xs), axis=axis),)


def cat(axis: int) -> End:
    return lambda g, xs: (g("Concat", *xs, axis=axis),)


def model(workshop: Any, end: End, K: int) -> Any:
    g = workshop.Graph(dtype="float64")
    x = y = g.input("y", "batch", N)
    xs = []
    for g.k in range(K):
        x = g("Tanh", g("Add", g("MatMul", x, g.weight("W", g.random("W", N, N))), y))
        xs.append(x)
    g.k = None
    return g.model(*end(g, xs))


def rolled(workshop: Any, end: End) -> tuple[Program, list[list[np.ndarray]], list[list[np.ndarray]]]:
    """The program after the pass; its outputs after 1 .. K iterations, as far as allowed; those of the short models."""
    before = roll_iterations(share_weights(workshop.imported(model(workshop, end, K)).program))
    assert [s.count for s in before.segments] == [K]
    program = stack_histories(before)
    verify_program(program)
    inputs = {"y": workshop.random("y", 1, N)}
    steps = [K] if program.early_stop else range(1, K + 1)
    found = [evaluate(program, inputs, iterations=k) for k in steps]
    truths = [evaluate(workshop.imported(model(workshop, end, k)).program, inputs) for k in steps]
    return program, found, truths


def operators(program: Program) -> list[str]:
    """Operators of the end that the outputs depend on."""
    needed, found = set(program.outputs), []
    for node in reversed(program.end):
        if needed & set(node.outputs):
            needed.update(node.inputs)
            found.append(node.operator)
    return found[::-1]


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_a_stack_is_a_view_and_stops_early(workshop: Any, axis: int) -> None:
    program, found, truths = rolled(workshop, stack(axis))
    assert not program.early_stop and "Concat" not in operators(program)
    for k, ((answer,), (truth,)) in enumerate(zip(found, truths, strict=True), 1):
        place = axis % 3
        np.testing.assert_allclose(np.take(answer, range(k), place), truth, 1e-12)
        assert not np.take(answer, range(k, K), place).any()


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_parts_joined_end_to_end_are_a_view(workshop: Any, axis: int) -> None:
    program, found, truths = rolled(workshop, cat(axis))
    assert not program.early_stop and operators(program) == ["Transpose", "Reshape"]
    for (answer,), (truth,) in zip(found, truths, strict=True):
        n = truth.shape[axis]
        np.testing.assert_allclose(np.take(answer, range(n), axis), truth, 1e-12)


@pytest.mark.parametrize("join", [stack(1), cat(1)])
def test_the_answer_beside_the_stack_is_the_running_iterate(workshop: Any, join: End) -> None:
    """It is no slot, which would hold zeros before the last iteration."""
    program, found, truths = rolled(workshop, lambda g, xs: (xs[-1], *join(g, xs)))
    assert not program.early_stop
    for answers, truth in zip(found, truths, strict=True):
        np.testing.assert_allclose(answers[0], truth[0], 1e-12)


def test_what_is_made_of_the_answer_beside_the_stack_stops_early(workshop: Any) -> None:
    program, found, truths = rolled(workshop, lambda g, xs: (g("Exp", xs[-1]), *stack(1)(g, xs)))
    assert not program.early_stop
    for answers, truth in zip(found, truths, strict=True):
        np.testing.assert_allclose(answers[0], truth[0], 1e-12)


def test_axes_inserted_behind_the_iterations(workshop: Any) -> None:
    """One estimate more gets an axis, so that what inserts them stays in the end."""
    program, found, truths = rolled(workshop, lambda g, xs: (*stack(1)(g, xs), g("Unsqueeze", xs[-1], at(g, 1))))
    assert not program.early_stop and "Concat" not in operators(program)
    for k, (answers, truth) in enumerate(zip(found, truths, strict=True), 1):
        np.testing.assert_allclose(answers[0][:, :k], truth[0], 1e-12)
        assert not answers[0][:, k:].any()
        np.testing.assert_allclose(answers[1], truth[1], 1e-12)


def test_axes_inserted_elsewhere(workshop: Any) -> None:
    def end(g: Any, xs: list[str]) -> tuple[str, ...]:
        parts = [g("Unsqueeze", x, at(g, 1)) for x in xs]
        return g("Concat", *parts, axis=2), g("Unsqueeze", xs[-1], at(g, 1))

    _, found, truths = rolled(workshop, end)
    workshop.close(found[-1], truths[-1], 1e-12)


def turned(g: Any, xs: list[str]) -> tuple[str, ...]:
    return (g("Transpose", stack(1)(g, xs)[0], perm=[0, 2, 1]),)


def test_a_view_of_the_stack_stops_early(workshop: Any) -> None:
    program, _, _ = rolled(workshop, turned)
    assert not program.early_stop


def mean(g: Any, xs: list[str]) -> tuple[str, ...]:
    return (g("Mul", g("Sum", *xs), g.weight("1/K", 1 / len(xs))),)


REFUSED: dict[str, tuple[End, str]] = {
    "mean": (mean, r"Sum.* computes with what all iterations leave"),
    "sum of the stack": (
        lambda g, xs: (g("ReduceSum", *stack(1)(g, xs), at(g, 1), keepdims=0),),
        r"computes with what all",
    ),
    "one by one": (lambda g, xs: tuple(xs), r"made from what certain iterations leave"),
    "the last of the stack": (
        lambda g, xs: (g("Gather", *stack(1)(g, xs), g.weight("-1", -1, "int64"), axis=1),),
        r"certain iterations leave",
    ),
    "other order": (lambda g, xs: cat(1)(g, xs[::-1]), r"Concat.* computes with"),
    "without the first": (lambda g, xs: cat(1)(g, xs[1:]), r"Concat.* computes with"),
    "without the last": (lambda g, xs: (*cat(1)(g, xs[:-1]), xs[-1]), r"Concat.* computes with"),
    "one twice": (lambda g, xs: cat(1)(g, [xs[1], *xs[1:]]), r"Concat.* computes with"),
    "with a start": (lambda g, xs: stack(1)(g, ["y", *xs]), r"Concat.* computes with"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_no_early_stop(workshop: Any, name: str) -> None:
    end, reason = REFUSED[name]
    program, (found,), (truth,) = rolled(workshop, end)
    assert re.search(reason, program.early_stop), program.early_stop
    workshop.close(found, truth, 1e-12)


def test_without_a_history_nothing_changes(workshop: Any) -> None:
    before = roll_iterations(workshop.imported(model(workshop, lambda g, xs: (xs[-1],), K)).program)
    assert stack_histories(before) is before
