"""What an exporter merged, or pulled in front of or behind the layers, returns to where all layers have it."""

from __future__ import annotations

from typing import Any

import numpy as np

from unfoldc.kernels.passes.roll_iterations import roll_iterations
from unfoldc.kernels.passes.share_out import share_out
from unfoldc.kernels.passes.share_weights import share_weights
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.program import Program
from unfoldc.kernels.verify import verify_program

N, K = 4, 4


def checked(workshop: Any, before: Program) -> Program:
    """The program after the pass, which must compute the same."""
    after = share_out(before)
    verify_program(after)
    rng = np.random.default_rng(1)
    inputs = {name: rng.standard_normal(before.types[name].shape) for name in before.inputs}
    workshop.close(evaluate(after, inputs), evaluate(before, inputs), 1e-12)
    return after


def imported(workshop: Any, model: Any) -> Program:
    program: Program = share_weights(workshop.imported(model).program)
    return program


def where(program: Program, operator: str) -> list[int]:
    """How many nodes of an operator stand in `begin`, in each layer and in `end`."""
    parts = (program.begin, *(s.nodes for s in program.segments), program.end)
    return [sum(n.operator == operator for n in part) for part in parts]


def test_a_value_of_the_first_layer_that_others_read_moves_to_begin(workshop: Any) -> None:
    g = workshop.Graph()
    y = x = g.input("y", "batch", N)
    for g.k in range(K):
        if g.k == 0:
            turned = g("Exp", g("Neg", y))
        x = g("Tanh", g("Add", x, turned))
    before = imported(workshop, g.model(x))
    assert where(before, "Exp") == where(before, "Neg") == [0, 1, 0, 0, 0, 0]
    after = checked(workshop, before)
    assert where(after, "Exp") == where(after, "Neg") == [1, 0, 0, 0, 0, 0]


def test_an_iterate_that_the_next_layer_reads_stays(workshop: Any) -> None:
    g = workshop.Graph()
    y = x = g.input("y", "batch", N)
    for g.k in range(K):
        x = g("Tanh", g("Add", x, y))
    before = imported(workshop, g.model(x))
    assert checked(workshop, before) == before


def test_a_first_layer_that_all_look_back_at_is_no_shared_value(workshop: Any) -> None:
    """Momentum: the second and the third layer read the first iterate, which is the whole layer."""
    g = workshop.Graph()
    x = before_x = g.input("y", "batch", N)
    for g.k in range(K):
        before_x, x = x, g("Tanh", g("Sub", x, before_x))
    before = imported(workshop, g.model(x))
    after = checked(workshop, before)
    assert [len(s.nodes) for s in after.segments] == [2] * K


def streamed(workshop: Any, layers: tuple[int, ...] = tuple(range(K)), also_at_the_end: bool = False) -> Program:
    """Slices of a stream, cut and turned in front of the layers; only some of the layers get one."""
    g = workshop.Graph()
    s = g.input("s", "batch", K, N)
    cuts = {k: g("Neg", g("Gather", s, g.weight(f"p{k}", k, "int64"), axis=1)) for k in layers}
    x = g("ReduceSum", s, g.weight("1", [1], "int64"), keepdims=0)
    for g.k in range(K):
        x = g("Tanh", g("Add", x, cuts[g.k]) if g.k in cuts else g("Exp", x))
    g.k = None
    return imported(workshop, g.model(x, *(g("Mul", x, cuts[k]) for k in layers if also_at_the_end)))


def test_a_stream_cut_in_front_of_the_layers_sinks(workshop: Any) -> None:
    before = streamed(workshop)
    assert where(before, "Gather") == [K, 0, 0, 0, 0, 0]
    after = checked(workshop, before)
    assert where(after, "Gather") == where(after, "Neg") == [0, 1, 1, 1, 1, 0]
    assert [s.count for s in roll_iterations(before).segments] == [K]


def test_what_only_some_layers_get_stays(workshop: Any) -> None:
    before = streamed(workshop, (2,))
    assert checked(workshop, before) == before


def test_what_the_end_reads_too_stays(workshop: Any) -> None:
    before = streamed(workshop, also_at_the_end=True)
    assert where(checked(workshop, before), "Gather") == [K, 0, 0, 0, 0, 0]


def decoded(workshop: Any, extra: bool = False) -> Program:
    """Every iterate is decoded behind the layers, and the results are joined."""
    g = workshop.Graph()
    y = x = g.input("y", "batch", N)
    xs = []
    for g.k in range(K):
        x = g("Tanh", g("Add", x, y))
        xs.append(x)
    g.k = None
    made = [g("MatMul", x, g.weight("D", g.random("D", N, N))) for x in xs]
    if extra:
        made.append(g("MatMul", xs[1], "D"))
        made.append(g("Exp", made[-1]))
    return imported(workshop, g.model(g("Concat", *made, axis=1)))


def test_what_the_end_does_to_every_iterate_joins_the_layers(workshop: Any) -> None:
    before = decoded(workshop)
    assert where(before, "MatMul") == [0, 0, 0, 0, 0, K]
    after = checked(workshop, before)
    assert where(after, "MatMul") == [0, 1, 1, 1, 1, 0]
    assert where(after, "Concat") == [0, 0, 0, 0, 0, 1]


def test_what_the_end_does_to_one_iterate_more_often_stays(workshop: Any) -> None:
    assert where(checked(workshop, decoded(workshop, extra=True)), "MatMul") == [0, 0, 0, 0, 0, K + 1]


def test_a_single_layer_is_left_alone(workshop: Any) -> None:
    g = workshop.Graph()
    y = g.input("y", "batch", N)
    g.k = 0
    before = imported(workshop, g.model(g("Tanh", y)))
    assert share_out(before) is before
