"""Rolling: alike layers become one body, whatever they read; layers that differ stay apart, with the reason."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from unfoldc.kernels.passes.roll_iterations import roll_iterations
from unfoldc.kernels.passes.share_weights import share_weights
from unfoldc.kernels.passes.stack_histories import stack_histories
from unfoldc.kernels.printers.reference import evaluate, iterate_outputs
from unfoldc.kernels.program import Program
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.kernels.verify import verify_program


def rolled(workshop: Any, name: str, K: int = 4) -> Program:
    return roll_iterations(share_weights(import_onnx(workshop.saved(name, K)).program))


@pytest.mark.parametrize("name", ["ista_tied", "ista_untied", "fista", "admm", "heavy_ball", "conjugate_gradient"])
def test_the_body_does_not_grow_with_k(workshop: Any, name: str) -> None:
    short, long = rolled(workshop, name, 4), rolled(workshop, name, 64)
    (body,), (other,) = short.segments, long.segments
    assert (body.count, other.count) == (4, 64)
    assert len(body.nodes) == len(other.nodes)
    assert len(short.states) == len(long.states)


@pytest.mark.parametrize(
    ("name", "states"),
    [("ista_tied", 1), ("fista", 2), ("heavy_ball", 2), ("three_back", 3), ("admm", 2), ("conjugate_gradient", 4)],
)
def test_states(workshop: Any, name: str, states: int) -> None:
    """As many as the method has: ADMM's x is made anew, the heavy ball's iterate before waits."""
    assert len(rolled(workshop, name).states) == states


def test_parameters_of_each_iteration_are_stacked(workshop: Any) -> None:
    program = rolled(workshop, "ista_untied")
    (body,) = program.segments
    assert sorted(program.constants[name].shape for name in body.stacked) == [(4, 1), (4, 4, 6), (4, 6, 6)]
    for name in body.stacked:
        assert program.constants[name].shape == (4, *program.types[name].shape)


def test_two_stacks_that_begin_alike(workshop: Any) -> None:
    program = rolled(workshop, "equal_at_first")
    stacks = sorted(program.constants[name].tolist() for name in program.segments[0].stacked)
    np.testing.assert_allclose(stacks, [[0.1, 0.05, 0.1 / 3, 0.025], [0.1, 0.2, 0.3, 0.4]])


NOTES = {
    "first_differs": [r"iteration.1/MatMul_\d+ \(MatMul\) stands where iteration 0 has iteration.0/Sign_\d+"],
    "middle_differs": [r"iteration 1 differs .*Tanh_\d+ \(Tanh\) has no counterpart", "iteration 2 differs from iter"],
    "width_changes": [
        r"iteration 2 differs .*makes float32\[1, 6\], .* float32\[1, 3\]",
        r"iteration 3 differs .*'v\d+' is float32\[1, 6\], its first value float32\[1, 3\]",
    ],
    "start_without_batch": [r"iteration 1 .* makes float32\[1, 6\], .* float32\[6\]"],
    "also_the_second": [r"iteration 2 starts anew: 'v\d+', a value of iteration 1, is used after later iterations"],
}


@pytest.mark.parametrize("name", NOTES)
def test_notes_say_what_did_not_roll_and_why(workshop: Any, name: str) -> None:
    found = rolled(workshop, name).notes
    assert len(found) == len(NOTES[name])
    for text, pattern in zip(found, NOTES[name], strict=True):
        assert re.search(pattern, text), text


def test_what_only_the_last_layer_computes_moves_to_the_end(workshop: Any) -> None:
    before = import_onnx(workshop.saved("objective_in_the_last", 4)).program
    program = roll_iterations(before)
    assert not before.end
    assert [n.operator for n in program.end] == ["Transpose", "MatMul", "Sub", "ReduceSumSquare"]


def test_a_last_layer_may_lack_what_nobody_reads(workshop: Any) -> None:
    before = import_onnx(workshop.saved("conjugate_gradient", 4)).program
    assert len(before.segments[-1].nodes) < len(before.segments[-2].nodes)
    assert len(rolled(workshop, "conjugate_gradient").segments) == 1


def test_nothing_to_roll(workshop: Any) -> None:
    g = workshop.Graph()
    y = g.input("y", "batch", 4)
    x = g("Add", g("Tanh", g("Neg", y)), g("Tanh", g("Neg", g("Abs", y))))  # alike, but neither reads the other
    program = roll_iterations(workshop.imported(g.model(x)).program)
    assert program.rolled and program.iterations == 1 and not program.notes


def test_layers_without_nodes(workshop: Any) -> None:
    program = import_onnx(workshop.saved("ista_tied", 3)).program
    first, second, third = program.segments
    made = (first.nodes[-1].outputs[0],)
    before = replace(first, nodes=()), replace(first, first=1, nodes=()), replace(first, first=2)
    after = first, replace(second, nodes=()), replace(third, nodes=())
    last = first, second, replace(third, nodes=())
    for segments in (before, after, last):
        found = roll_iterations(replace(program, segments=segments, outputs=made))
        verify_program(found)
        assert len(found.segments) == 2


# -- random layers ---------------------------------------------------------------------------------------------------


def random_model(workshop: Any, seed: int, K: int) -> onnx.ModelProto:
    """Layers made after one random pattern, some of them with an exception, over three values handed on.

    The pattern does not depend on K, so that the model of k iterations is the truth for iterate k.
    """
    rng = np.random.default_rng(seed)
    g = workshop.Graph()
    y = g.input("y", "batch", 6)
    w = g.weight("W", workshop.random("W", 6, 6))
    shared = [g("MatMul", y, w), g("Tanh", y), y]
    history = [[shared[rng.integers(3)] for _ in range(3)] for _ in range(2)]
    pattern = [
        (str(rng.choice(["Add", "Mul", "Sub", "MatMul", "Tanh", "Gain"])), rng.integers(0, 99, 2)) for _ in range(6)
    ]
    handed = rng.integers(0, 99, 3)
    odd = {int(k) for k in rng.integers(0, 12, 2)}
    tied = rng.random() < 0.5
    for g.k in range(K):
        made: list[str] = []
        for operator, choice in pattern:
            pool = [*history[-1], *history[-1], *history[-2], *shared, *made, *made]
            a, b = pool[choice[0] % len(pool)], pool[choice[1] % len(pool)]
            match operator:
                case "MatMul":
                    made.append(g("MatMul", a, w if tied else g.weight(f"W{g.k}", workshop.random(f"{g.k}", 6, 6))))
                case "Tanh":
                    made.append(g("Tanh", a))
                case "Gain":
                    made.append(g("Mul", a, g.weight(f"gain{g.k}", 0.5 + 0.1 * g.k)))
                case _:
                    made.append(g("Tanh", g(operator, a, b)))
        if g.k in odd:
            made[-1] = g("Neg", made[-1])
        pool = [*made, *made, *history[-1]]
        history.append([pool[i % len(pool)] for i in handed])
    g.k = None
    outputs = [history[-1][0], history[-1][1], history[-2][2]]
    end = g("Add", outputs[rng.integers(2)], shared[rng.integers(3)])
    results = [end, outputs[0]] if rng.random() < 0.7 else [end, outputs[2]]
    return g.model(*(g("Identity", r, out=f"out{i}") for i, r in enumerate(results)))


@pytest.mark.parametrize("seed", range(60))
def test_random_layers(workshop: Any, seed: int) -> None:
    inputs = {"y": workshop.random("y", 1, 6)}
    programs = [workshop.imported(random_model(workshop, seed, k)).program for k in range(1, 6)]
    truths = [evaluate(p, inputs) for p in programs]
    program = roll_iterations(share_weights(programs[-1]))
    verify_program(program)
    workshop.close(evaluate(program, inputs), truths[-1], 1e-12)
    # What the last layer computes beyond the others may have parameters that no shorter model shows, and what comes
    # before the first iterate is the model's own affair.
    waiting = {s for segment in program.segments for s, v in segment.carried.items() if v.startswith("state ")}
    read = {*program.outputs, *(i for n in program.end for i in n.inputs)}
    if not program.early_stop and program.iterations == 5 and len(program.end) == len(programs[-1].end):
        whole = made_in(programs[-1])
        for k, found in enumerate(iterate_outputs(program, inputs)):
            if (k or not waiting & read) and made_in(programs[k]) <= whole:
                workshop.close(found, truths[k], 1e-12)


def made_in(program: Program) -> set[str]:
    """What is computed before the end. A value read two layers later makes two chains; a model may hold one of them."""
    nodes = (*program.begin, *(n for s in program.segments for n in s.nodes))
    return {o for n in nodes for o in n.outputs}


# -- unlabelled iterations, layers in turn, what only the last layer has -----------------------------------------------


def rolled_model(workshop: Any, model: onnx.ModelProto) -> Program:
    program = roll_iterations(share_weights(workshop.imported(model).program))
    verify_program(program)
    return program


@pytest.mark.parametrize("style", ["names", "none"])
def test_layers_that_take_turns_make_one_iteration(workshop: Any, style: str) -> None:
    g = workshop.Graph(style=style)
    x = g.input("y", "batch", 4)
    for g.k in range(9):
        x = g(
            ("Tanh", "Neg", "Sigmoid")[g.k % 3], g("MatMul", x, g.weight(f"W{g.k % 3}", g.random(str(g.k % 3), 4, 4)))
        )
    program = rolled_model(workshop, g.model(x))
    assert [(s.count, len(s.nodes)) for s in program.segments] == [(3, 6)]


def test_a_start_that_looks_like_the_end_of_an_iteration_is_none(workshop: Any) -> None:
    """Unlabelled: the multiplication that makes the start is not the last part of an iteration before the first."""
    g = workshop.Graph(style="none")
    y = g.input("y", "batch", 4)
    x = g("Mul", y, g.weight("0", 0.1))
    for _ in range(4):
        v = g("Add", g("MatMul", x, g.weight("W", g.random("W", 4, 4))), y)
        x = g("Mul", g("Sign", v), g("Abs", v))
    program = rolled_model(workshop, g.model(x))
    assert [s.count for s in program.segments] == [4]
    assert [n.operator for n in program.begin] == ["Mul"]


def test_alike_branches_are_no_iterations(workshop: Any) -> None:
    g = workshop.Graph(style="none")
    y = g.input("y", "batch", 4)
    branches = [g("Tanh", g("Neg", g("Mul", y, g.weight(f"w{k}", 0.1 * k)))) for k in range(1, 5)]
    program = rolled_model(workshop, g.model(g("Sum", *branches)))
    assert program.rolled and program.iterations == 1


@pytest.mark.parametrize(("untied", "own", "stops"), [(False, True, True), (True, True, False), (True, False, True)])
def test_what_only_the_last_layer_has_may_be_its_own(workshop: Any, untied: bool, own: bool, stops: bool) -> None:
    """Layers with weights of their own, the last of which is followed by a matrix: of which iteration?"""
    g = workshop.Graph()
    x = y = g.input("y", "batch", 4)
    xs = []
    for g.k in range(4):
        name = f"W{g.k}" if untied else "W"
        x = g("Tanh", g("Add", g("MatMul", x, g.weight(name, g.random(name, 4, 4))), y))
        xs.append(x)
    g.k = 3
    answer = g("MatMul", x, g.weight("D", g.random("D", 4, 4))) if own else g("Exp", g("Sub", x, y))
    g.k = None
    for extra in ((x,), (x, g("Concat", *xs, axis=1))):  # what is kept of all iterations hides no doubt
        program = stack_histories(rolled_model(workshop, g.model(answer, *extra)))
        assert [s.count for s in program.segments] == [4]
        assert (program.early_stop == "") == stops
