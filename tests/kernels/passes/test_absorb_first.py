"""A first layer that the exporter computed in part is the body's first run, but only if the body gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from unfoldc.kernels.passes.roll_iterations import roll_iterations
from unfoldc.kernels.passes.share_weights import share_weights
from unfoldc.kernels.printers.reference import evaluate, iterate_outputs
from unfoldc.kernels.program import Program
from unfoldc.kernels.verify import verify_program

M, N, K = 3, 4, 4


def weights(g: Any, k: int, untied: bool) -> tuple[str, str]:
    end = f".{k}" if untied else ""
    return g.weight(f"W1{end}", g.random(f"W1{end}", M, N)), g.weight(f"W2{end}", g.random(f"W2{end}", N, N))


def unfolded(g: Any, K: int, start: np.ndarray, untied: bool = False, skip: bool = False) -> Any:
    """x = tanh(x W2 + y W1), with `skip` + x."""
    y, x = g.input("y", "batch", M), g.weight("x0", start)
    for g.k in range(K):
        w1, w2 = weights(g, g.k, untied)
        new = g("Tanh", g("Add", g("MatMul", x, w2), g("MatMul", y, w1)))
        x = g("Add", new, x) if skip else new
    return g.model(x)


def folded(g: Any, K: int, start: np.ndarray, untied: bool = False, skip: bool = False, wrong: float = 0.0) -> Any:
    """The same with x0 W2 computed in advance, and a mistake in it if `wrong` is not 0."""
    y, x = g.input("y", "batch", M), g.weight("x0", start)
    for g.k in range(K):
        w1, w2 = weights(g, g.k, untied)
        product = g("MatMul", x, w2) if g.k else g.weight("x0 W2", (start @ g.weights[w2]) + wrong)
        new = g("Tanh", g("Add", product, g("MatMul", y, w1)))
        x = g("Add", new, x) if skip else new
    return g.model(x)


def roll(workshop: Any, model: Any) -> Program:
    program = roll_iterations(share_weights(workshop.imported(model).program))
    verify_program(program)
    return program


def inputs(workshop: Any) -> dict[str, np.ndarray]:
    return {"y": workshop.random("y", 1, M)}


def graph(workshop: Any) -> Any:
    return workshop.Graph(dtype="float64")


ZEROS = np.zeros((1, N))
START = np.random.default_rng(3).standard_normal((1, N))


@pytest.mark.parametrize(
    ("start", "skip", "untied"),
    [(ZEROS, False, False), (ZEROS, True, False), (START, True, False), (ZEROS, False, True), (ZEROS, True, True)],
)
def test_a_folded_first_layer_joins_the_others(workshop: Any, start: np.ndarray, skip: bool, untied: bool) -> None:
    program = roll(workshop, folded(graph(workshop), K, start, untied, skip))
    (body,) = program.segments
    assert (body.first, body.count, program.notes) == (0, K, ())
    for k, found in enumerate(iterate_outputs(program, inputs(workshop)), 1):
        truth = workshop.imported(unfolded(graph(workshop), k, start, untied, skip)).program
        workshop.close(found, evaluate(truth, inputs(workshop)), 1e-12)


@pytest.mark.parametrize("wrong", [0.1, 1e-6, np.inf])
@pytest.mark.parametrize("skip", [False, True])
def test_a_constant_that_the_body_does_not_give_stays(workshop: Any, skip: bool, wrong: float) -> None:
    model = folded(graph(workshop), K, START, skip=skip, wrong=wrong)
    program = roll(workshop, model)
    assert [s.count for s in program.segments] == [1, K - 1]
    truth = evaluate(workshop.imported(model).program, inputs(workshop))
    np.testing.assert_allclose(evaluate(program, inputs(workshop)), truth, 1e-12)


def test_a_start_that_is_not_in_the_file_must_be_zero(workshop: Any) -> None:
    """Without the skip nothing shows x0 = START: only its product is there, which zeros do not give."""
    assert len(roll(workshop, folded(graph(workshop), K, START)).segments) == 2


def test_a_weight_that_is_not_in_the_file_is_not_made_up(workshop: Any) -> None:
    """The first layer's own W2 was folded into START W2; no other layer's gives the same."""
    model = folded(graph(workshop), K, START, untied=True, skip=True)
    program = roll(workshop, model)
    assert [s.count for s in program.segments] == [1, K - 1]
    truth = evaluate(workshop.imported(model).program, inputs(workshop))
    workshop.close(evaluate(program, inputs(workshop)), truth, 1e-12)


def test_data_does_not_pass_for_a_constant(workshop: Any) -> None:
    """The body computes from y what the first layer has as a constant: no evaluation can confirm it."""
    g = graph(workshop)
    y, x = g.input("y", "batch", N), g.weight("x0", ZEROS)
    for g.k in range(K):
        scaled = g("Mul", y, y) if g.k else g.weight("c", np.ones((1, N)))
        x = g("Tanh", g("Add", g("Add", x, y), scaled))
    model = g.model(x)
    program = roll(workshop, model)
    assert program.segments[0].count == 1
    wanted = evaluate(workshop.imported(model).program, {"y": workshop.random("y", 1, N)})
    workshop.close(evaluate(program, {"y": workshop.random("y", 1, N)}), wanted, 1e-12)


def test_momentum_whose_first_step_has_none(workshop: Any) -> None:
    """FISTA from zeros: in the first layer x and z are one value, and the difference is gone."""

    def model(K: int, short: bool) -> Any:
        g = graph(workshop)
        y, x = g.input("y", "batch", M), g.weight("x0", ZEROS)
        z = x
        for g.k in range(K):
            w1, w2 = weights(g, 0, False)
            data = g("MatMul", y, w1)
            product = g("MatMul", z, w2) if g.k or not short else g.weight("product", ZEROS)
            new = g("Tanh", g("Add", product, data))
            beta = g.weight(f"b{g.k}", 0.1 + 0.2 * g.k)
            z = g("Add", new, g("Mul", beta, new if short and not g.k else g("Sub", new, x)))
            x = new
        return g.model(x)

    program = roll(workshop, model(K, True))
    for k, found in enumerate(iterate_outputs(program, inputs(workshop)), 1):
        truth = workshop.imported(model(k, False)).program
        workshop.close(found, evaluate(truth, inputs(workshop)), 1e-12)


@pytest.mark.parametrize("operators", [[], ["Exp"], ["Exp", "Neg"]])
def test_what_is_kept_of_the_first_layer_is_kept_still(workshop: Any, operators: list[str]) -> None:
    """Every iterate, or what is made of it, is stacked: the folded first layer's fills the first slot."""

    def stacked(model: Any) -> Any:
        names = [n.output[0] for n in model.graph.node if n.op_type == "Tanh"]
        for operator in operators:
            made = [f"{operator} {name}" for name in names]
            model.graph.node.extend(
                helper.make_node(operator, [old], [new], name=f"iteration.{k}/{operator}")
                for k, (old, new) in enumerate(zip(names, made, strict=True))
            )
            names = made
        model.graph.node.append(helper.make_node("Concat", names, ["all"], axis=1, name="join"))
        model.graph.output[0].name = "all"
        return model

    program = roll(workshop, stacked(folded(graph(workshop), K, ZEROS)))
    assert [s.count for s in program.segments] == [K]
    assert len(program.segments[0].kept) == 1
    assert not program.begin
    truth = workshop.imported(stacked(unfolded(graph(workshop), K, ZEROS))).program
    workshop.close(evaluate(program, inputs(workshop)), evaluate(truth, inputs(workshop)), 1e-12)


def test_what_others_read_of_the_first_layer_moves_to_begin(workshop: Any) -> None:
    """Layers read the first one's y W1, computed once."""
    g = graph(workshop)
    y, x = g.input("y", "batch", M), g.weight("x0", ZEROS)
    w1, w2 = weights(g, 0, False)
    for g.k in range(K):
        if g.k == 0:
            data = g("MatMul", y, w1)
        product = g("MatMul", x, w2) if g.k else g.weight("product", ZEROS)
        x = g("Tanh", g("Add", product, data))
        if g.k == 0:
            other = g("Exp", g("Neg", y))
    g.k = None
    program = roll(workshop, g.model(x, g("Identity", data, out="data"), g("Neg", other)))
    assert [s.count for s in program.segments] == [K]
    assert sorted(n.operator for n in program.begin) == ["Exp", "MatMul", "Neg"]
    truth = workshop.imported(unfolded(graph(workshop), K, ZEROS)).program
    workshop.close(evaluate(program, inputs(workshop))[:1], evaluate(truth, inputs(workshop)), 1e-12)
