from __future__ import annotations

from dataclasses import replace
from typing import Any

from unfoldc.kernels.passes.remove_dead import remove_dead
from unfoldc.kernels.passes.roll_iterations import roll_iterations
from unfoldc.kernels.program import Node, Origin, Program, State
from unfoldc.kernels.reading.from_onnx import import_onnx


def padded(workshop: Any) -> Program:
    """A solver with a state that only feeds itself, a node that nobody reads in each part, and a spare constant."""
    program = roll_iterations(import_onnx(workshop.saved("fista", 4)).program)
    (body,) = program.segments
    t = program.types["W1"]
    vector = program.types[program.states[0].name]
    types = dict(program.types) | {"spare": t, "idle": vector, "next": vector, "b": vector, "e": vector}
    extra = Node("Tanh", ("idle",), ("next",), {}, Origin("extra", "Tanh"))
    return replace(
        program,
        types=types,
        constants={**program.constants, "spare": program.constants["W1"]},
        begin=(*program.begin, replace(extra, inputs=(program.states[0].initial,), outputs=("b",))),
        segments=(replace(body, nodes=(*body.nodes, extra), carried={**body.carried, "idle": "next"}),),
        end=(replace(extra, inputs=(program.outputs[0],), outputs=("e",)),),
        states=(*program.states, State("idle", "b")),
    )


def test_what_no_answer_needs_goes(workshop: Any) -> None:
    program = remove_dead(padded(workshop))
    clean = remove_dead(roll_iterations(import_onnx(workshop.saved("fista", 4)).program))
    assert program.segments == clean.segments
    assert program.states == clean.states
    assert (program.begin, program.end) == (clean.begin, clean.end)
    assert program.constants.keys() == clean.constants.keys()


def test_states_that_need_each_other_stay(workshop: Any) -> None:
    program = roll_iterations(import_onnx(workshop.saved("swap", 4)).program)
    assert remove_dead(program).states == program.states


def test_before_rolling_as_well(workshop: Any) -> None:
    program = import_onnx(workshop.saved("ista_tied", 4)).program
    assert remove_dead(program).segments == program.segments
    early = replace(program, outputs=(program.segments[1].nodes[-1].outputs[0],))
    assert [len(s.nodes) > 0 for s in remove_dead(early).segments] == [True, True, False, False]
