from __future__ import annotations

from typing import Any

import pytest

from unfoldc.kernels.passes.roll_iterations import roll_iterations
from unfoldc.kernels.passes.thread_states import Run, SkipError, thread_states
from unfoldc.kernels.printers.reference import evaluate, iterate_outputs
from unfoldc.kernels.program import Program
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.kernels.verify import verify_program


def rolled(workshop: Any, name: str, K: int = 4) -> Program:
    return roll_iterations(import_onnx(workshop.saved(name, K)).program)


def test_any_program_threads_without_rolling(solver: Any, workshop: Any) -> None:
    before = import_onnx(workshop.saved(solver.name, 3)).program
    after = thread_states(before, list(map(Run.alone, before.segments)))
    verify_program(after)
    inputs = workshop.single(solver.problems(), import_onnx(workshop.saved(solver.name, 3)), 0)
    workshop.close(evaluate(after, inputs), evaluate(before, inputs), 1e-12)


def test_a_value_in_the_middle_of_a_run_is_out_of_reach(workshop: Any) -> None:
    program = import_onnx(workshop.saved("ista_tied", 4)).program
    layers = program.segments
    inverse = [dict(zip(_made(s), _made(layers[0]), strict=True)) for s in layers]
    run = Run(type(layers[0])(0, 4, layers[0].nodes, {}), {}, inverse)
    early = _made(layers[1])[-1]
    wanted = type(program)(**{**program.__dict__, "outputs": (early,)})
    with pytest.raises(SkipError, match=f"'{early}', a value of iteration 1, is used after later") as caught:
        thread_states(wanted, [run])
    assert list(caught.value.reasons) == [2]


def _made(segment: Any) -> list[str]:
    return [o for n in segment.nodes for o in n.outputs]


def test_a_later_reader_does_not_take_a_state_that_it_changes(workshop: Any) -> None:
    """Every later layer reads the first one's result; the state that starts from it moves on."""
    program = rolled(workshop, "shortcut")
    body = program.segments[1]
    read = {i for n in body.nodes for i in n.inputs} & {s.name for s in program.states}
    assert len(read) == 2
    assert len(read & body.carried.keys()) == 1


def test_the_last_but_one_iterate_waits_in_a_state(workshop: Any) -> None:
    program = rolled(workshop, "last_step")
    (body,) = program.segments
    (wait,) = (s for s, v in body.carried.items() if v in body.carried)
    (start,) = (s.initial for s in program.states if s.name == body.carried[wait])
    assert [s.initial for s in program.states if s.name == wait] == [start]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("first_differs", ""),
        ("many_outputs", ""),
        ("constant_output", ""),
        ("also_the_second", "a value that iteration 2 does not update"),
        ("width_changes", "a value that iteration 0 does not update"),
    ],
)
def test_early_stop(workshop: Any, name: str, reason: str) -> None:
    found = rolled(workshop, name).early_stop
    assert reason in found if reason else not found


def test_names_of_the_model_are_not_taken_twice(workshop: Any) -> None:
    program = rolled(workshop, "compiler_names")
    verify_program(program)
    assert "state 0.0'" in {s.name for s in program.states}


# -- answers after fewer iterations ----------------------------------------------------------------------------------


def chain(workshop: Any, K: int, answers: Any) -> Program:
    """x = tanh(x + y) from y on; `answers(g, xs)` are the outputs."""
    g = workshop.Graph()
    y = g.input("y", "batch", 3)
    xs = [y]
    for g.k in range(K):
        xs.append(g("Tanh", g("Add", xs[-1], y)))
    g.k = None
    return roll_iterations(workshop.imported(g.model(*answers(g, xs))).program)


def test_the_last_two_iterates_are_states(workshop: Any) -> None:
    for K in (3, 4, 8):
        program = chain(workshop, K, lambda g, xs: (xs[-1], xs[-2]))
        assert not program.early_stop and not any(s.kept for s in program.segments)
        now, before = (iterate_outputs(program, {"y": workshop.random("y", 1, 3)}) for _ in range(2))
        for k in range(1, K):
            workshop.close([now[k][1]], [before[k - 1][0]], 1e-12)


def test_two_iterates_of_two_are_kept(workshop: Any) -> None:
    """Both are all that there are: whether one waits for the other or each has a place of its own, nobody knows."""
    assert chain(workshop, 3, lambda g, xs: (g("Concat", xs[0], *xs[2:], axis=1),)).early_stop
    for answers in (lambda g, xs: (xs[-1], xs[-2]), lambda g, xs: (g("Add", xs[-1], xs[-2]),)):
        program = chain(workshop, 2, answers)
        assert [len(s.kept) for s in program.segments] == [1]
        assert program.early_stop


def test_an_answer_with_two_first_values_is_not_guessed(workshop: Any) -> None:
    """Two states take over each iterate, but they start differently: what is the iterate before the first?"""
    g = workshop.Graph()
    y = g.input("y", "batch", 3)
    x, other = g("Exp", y), g("Neg", y)
    xs = [x]
    for g.k in range(4):
        x = g("Tanh", g("Sub", x, other if g.k == 0 else g("Identity", x)))
        xs.append(x)
    g.k = None
    program = roll_iterations(workshop.imported(g.model(xs[-1])).program)
    assert not program.early_stop
    program = roll_iterations(workshop.imported(g.model(g("Sub", xs[-1], xs[-2]))).program)
    assert "had several values at first" in program.early_stop


def test_an_answer_that_a_different_first_layer_leaves_twice_is_not_guessed(workshop: Any) -> None:
    """The first layer hands on two values, all others one: which of the two is its answer?"""
    g = workshop.Graph()
    y = g.input("y", "batch", 3)
    for g.k in range(5):
        if g.k == 0:
            x, other = g("Exp", y), g("Sigmoid", g("Neg", y))
        else:
            x = other = g("Tanh", g("Sub", g("Abs", x), g("Sin", other)))
    program = roll_iterations(workshop.imported(g.model(x)).program)
    assert [s.count for s in program.segments] == [1, 4]
    assert "had several values at first" in program.early_stop
