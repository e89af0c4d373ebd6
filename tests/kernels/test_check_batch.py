"""A batch becomes an outer loop only where each problem is solved on its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from unfoldc.errors import ModelError
from unfoldc.kernels.pipeline import load_program
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.reading.from_onnx import import_onnx

B = 3


def test_solvers_treat_problems_one_by_one(solver: Any, workshop: Any) -> None:
    """No model of the collection is refused, and compiling for one problem gives ONNX's answer for each of a batch."""
    path = workshop.saved(solver.name, 2)
    model, program = load_program(path)
    inputs = solver.problems()
    wanted = workshop.run_onnx(onnx.load(path), inputs)
    for item in range(B):
        for port, found in zip(model.outputs, evaluate(program, workshop.single(inputs, model, item)), strict=True):
            expected = wanted[port.name][item] if port.batched else wanted[port.name]
            assert expected.shape == port.shape
            np.testing.assert_allclose(found.reshape(port.shape), expected, rtol=1e-4, atol=1e-5)


def test_what_does_not_depend_on_the_batch_is_given_once(workshop: Any) -> None:
    model, _ = load_program(workshop.saved("constant_output", 2))
    assert [(p.shape, p.batched) for p in model.outputs] == [((6,), True), ((4, 6), False)]
    g = workshop.Graph()
    row = g("Tanh", g.input("row", 1, 6))
    model, _ = load_program(workshop.save(g.model(g("Tanh", g.input("y", "batch", 4)), row)))
    assert [(p.shape, p.batched) for p in model.outputs] == [((4,), True), ((1, 6), False)]


def softmax_over_problems(g: Any, y: str) -> str:
    e = g("Exp", y)
    return g("Div", e, g("ReduceSum", e, g.weight("0", [0], "int64"), keepdims=1))


def flipped(g: Any, y: str) -> str:
    ends = g.weight("-1", [-1], "int64"), g.weight("first", [-(2**62)], "int64")
    return g("Add", y, g("Slice", y, *ends, g.weight("0", [0], "int64"), g.weight("step", [-1], "int64")))


def first_row(g: Any, y: str) -> str:
    return g("Sub", y, g("Gather", y, g.weight("0", 0, "int64"), axis=0))


def gram(g: Any, y: str) -> str:
    return g("MatMul", g("MatMul", y, g("Transpose", y, perm=[1, 0])), y)


def position(g: Any, y: str) -> str:
    rows = g("Gather", g("Shape", y), g.weight("0", 0, "int64"), axis=0)
    numbers = g(
        "Cast", g("Range", g.weight("a", 0, "int64"), rows, g.weight("b", 1, "int64")), to=onnx.TensorProto.FLOAT
    )
    return g("Add", y, g("Unsqueeze", numbers, g.weight("1", [1], "int64")))


def numbered_table(g: Any, y: str) -> str:
    rows = g("Gather", g("Shape", y), g.weight("0", 0, "int64"), axis=0)
    numbers = g(
        "Cast", g("Range", g.weight("a", 0, "int64"), rows, g.weight("b", 1, "int64")), to=onnx.TensorProto.FLOAT
    )
    table = g(
        "Mul", g("Unsqueeze", g("Exp", numbers), g.weight("1", [1], "int64")), g.weight("t", [0.1, 0.2, 0.3, 0.4])
    )
    return g("MatMul", g("Add", y, table), g.weight("W", np.eye(4)))


def row_of_a_table(g: Any, y: str) -> str:
    """Problem i gets row i of an input that is shared."""
    rows = g("Slice", g("Shape", y), g.weight("0", [0], "int64"), g.weight("1", [1], "int64"))
    return g(
        "Add", y, g("Slice", g.input("table", 8, 4), g.weight("s", [0], "int64"), rows, g.weight("0", [0], "int64"))
    )


def divided_by_the_number(g: Any, y: str) -> str:
    rows = g("Cast", g("Gather", g("Shape", y), g.weight("0", 0, "int64"), axis=0), to=onnx.TensorProto.FLOAT)
    return g("Div", y, rows)


def joined(g: Any, y: str) -> str:
    return g("Reshape", g("Tanh", g("Reshape", y, g.weight("flat", [-1], "int64"))), g.weight("back", [-1, 4], "int64"))


def mean_loss(g: Any, y: str) -> str:
    return g("ReduceMean", g("Mul", y, y), keepdims=0)


def running_sum(g: Any, y: str) -> str:
    return g("CumSum", y, g.weight("0", 0, "int64"))


def shared_by_the_number(g: Any, y: str) -> str:
    """A value without a batch axis that depends on the number of problems."""
    rows = g("Cast", g("Gather", g("Shape", y), g.weight("0", 0, "int64"), axis=0), to=onnx.TensorProto.FLOAT)
    return g("MatMul", y, g("Div", g.input("H", 4, 4), rows))


def more_than_five(g: Any, y: str) -> str:
    """What depends on the number of problems from six on."""
    rows = g("Gather", g("Shape", y), g.weight("0", 0, "int64"), axis=0)
    many = g("Cast", g("Greater", rows, g.weight("5", 5, "int64")), to=onnx.TensorProto.FLOAT)
    return g("Add", y, many)


COUPLED = {
    running_sum: "goes on from one problem of the batch to the next",
    shared_by_the_number: "depends on the number of problems",
    more_than_five: "depends on the position in the batch or on the number of problems",
    softmax_over_problems: "Div_. .* reads another problem of the batch than the one it computes",
    flipped: "Add_. .* reads another problem of the batch than the one it computes",
    first_row: "reads another problem of the batch",
    gram: r"a value has shape \[2, 2\] for 2 problems and \[1, 1\] for one|mixes|reads another",
    position: "a constant depends on the number of problems|changes the structure",
    numbered_table: "a constant depends on the number of problems",
    row_of_a_table: "depends on the position in the batch",
    divided_by_the_number: "depends on the position in the batch or on the number of problems",
    joined: "Reshape_. .* reads another problem of the batch",
    mean_loss: "mixes the problems of a batch into one value",
}


def model(workshop: Any, step: Any, iterations: int) -> onnx.ModelProto:
    g = workshop.Graph()
    x = g.input("y", "batch", 4)
    for g.k in range(iterations):
        x = g("Tanh", x)
    g.k = None
    return g.model(step(g, x))


@pytest.mark.parametrize("step", COUPLED, ids=lambda s: s.__name__)
@pytest.mark.parametrize("iterations", [0, 2])
def test_coupled_problems_are_refused(workshop: Any, step: Any, iterations: int) -> None:
    with pytest.raises(ModelError, match=f"couples the problems of a batch: .*({COUPLED[step]})") as caught:
        load_program(workshop.save(model(workshop, step, iterations)))
    assert "Compile with batch=N" in caught.value.do


@pytest.mark.parametrize("step", COUPLED, ids=lambda s: s.__name__)
def test_coupled_problems_compile_for_a_fixed_number(workshop: Any, step: Any) -> None:
    made = model(workshop, step, 2)
    found, program = load_program(workshop.save(made), batch=B)
    assert found.batch is None and not any(p.batched for p in (*found.inputs, *found.outputs))
    inputs = workshop.feeds(made, B)
    answers = evaluate(program, inputs)
    for port, answer in zip(found.outputs, answers, strict=True):
        wanted = workshop.run_onnx(made, inputs)[port.name]
        assert port.shape == wanted.shape
        np.testing.assert_allclose(answer, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("step", [softmax_over_problems, gram, joined], ids=lambda s: s.__name__)
def test_coupled_inside_the_iteration(workshop: Any, step: Any) -> None:
    g = workshop.Graph()
    x = g.input("y", "batch", 4)
    for g.k in range(3):
        x = g("Tanh", step(g, x))
    with pytest.raises(ModelError, match="couples the problems of a batch"):
        load_program(workshop.save(g.model(x)))


def test_a_fixed_number_of_separate_problems_stays_a_batch(workshop: Any) -> None:
    found, _ = load_program(workshop.saved("ista_tied", 2), batch=B)
    assert found.batch == B and found.inputs[0].batched


def test_a_start_with_a_row_for_all_is_no_coupling(workshop: Any) -> None:
    """Rolled for two problems it has another structure than for one; the check looks again without rolling."""
    path = workshop.saved("learned_start", 4)
    one, two = (import_onnx(path, batch_size=n).program for n in (1, 2))
    assert one.types[one.outputs[0]].shape != two.types[two.outputs[0]].shape
    _, program = load_program(path)
    assert len(program.segments) == 1


def test_equal_rows_of_a_constant_are_no_coupling(workshop: Any) -> None:
    """A start that is computed from a parameter spread over the batch folds to a constant of one row for each."""
    g = workshop.Graph()
    y = g.input("y", "batch", 4)
    rows = g("Slice", g("Shape", y), g.weight("0", [0], "int64"), g.weight("1", [1], "int64"))
    shape = g("Concat", rows, g.weight("4", [4], "int64"), axis=0)
    x = g("Exp", g("Expand", g.weight("x0", [0.1, 0.2, 0.3, 0.4]), shape))
    for g.k in range(3):
        x = g("Tanh", g("Add", g("MatMul", x, g.weight("W", workshop.random("W", 4, 4))), y))
    found, _ = load_program(workshop.save(g.model(x)))
    assert found.outputs[0].batched


def test_a_spread_value_of_a_shared_input(workshop: Any) -> None:
    """What is as large as one problem is computed inside; for two problems it would be stored."""
    g = workshop.Graph()
    y, h = g.input("y", "batch", 4), g.input("h", 4)
    found, _ = load_program(workshop.save(g.model(g("Add", y, g("Exp", h)))))
    assert [p.batched for p in found.inputs] == [True, False]


def test_ports_of_a_batch_of_one(workshop: Any) -> None:
    made = model(workshop, gram, 1)
    found, _ = load_program(workshop.save(made), batch=1)
    assert [replace(p, name="", dtype="") for p in found.outputs] == [type(found.outputs[0])("", "", (1, 4), False)]
