"""Import: the program means what ONNX says, and its ports are what the caller sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from unfoldc.errors import ModelError
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.kernels.verify import verify_program


@pytest.mark.parametrize("K", [1, 2, 4])
def test_import_means_what_onnx_says(solver: Any, workshop: Any, K: int) -> None:
    model = solver.make(K)
    imported = import_onnx(workshop.saved(solver.name, K))
    verify_program(imported.program)
    inputs = workshop.feeds(model, 3)
    wanted = workshop.run_onnx(model, inputs)
    for item in range(3):
        found = evaluate(imported.program, workshop.single(inputs, imported, item))
        for port, answer in zip(imported.outputs, found, strict=True):
            expected = wanted[port.name][item] if port.batched else wanted[port.name]
            np.testing.assert_allclose(answer.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)


def test_all_in_the_types_of_the_program(solver: Any, workshop: Any) -> None:
    imported = import_onnx(workshop.saved(solver.name, 2))
    inputs = workshop.single(solver.problems(), imported, 0)
    exact, own = evaluate(imported.program, inputs), evaluate(imported.program, inputs, dtype=None)
    for port, a, b in zip(imported.outputs, own, exact, strict=True):
        assert a.dtype == port.dtype
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_ports(workshop: Any) -> None:
    model = import_onnx(workshop.saved("operator_per_call", 2))
    assert [(p.name, p.shape, p.batched) for p in model.inputs] == [("y", (4,), True), ("H", (4, 6), False)]
    assert [(p.shape, p.batched, p.dtype) for p in model.outputs] == [((6,), True, "float32")]
    assert model.batch is None
    assert import_onnx(workshop.saved("operator_per_call", 2), batch=7).batch == 7


def test_bound_dimension_is_no_batch(workshop: Any) -> None:
    model = import_onnx(workshop.saved("ista_tied", 2), dimensions={"batch": 5})
    assert [(p.shape, p.batched) for p in (*model.inputs, *model.outputs)] == [((5, 4), False), ((5, 6), False)]


def test_number_per_problem(workshop: Any) -> None:
    g = workshop.Graph()
    model = workshop.imported(g.model(g("Relu", g.input("y", "batch"))))
    assert [(p.shape, p.batched) for p in (*model.inputs, *model.outputs)] == [((), True)] * 2


def test_the_axis_named_batch_is_the_batch(workshop: Any) -> None:
    g = workshop.Graph()
    h, y = g.input("H", "m", 3), g.input("y", "batch", "m")
    model = g.model(g("MatMul", y, h))
    found = workshop.imported(model, dimensions={"m": 2})
    assert [(p.shape, p.batched) for p in found.inputs] == [((2, 3), False), ((2,), True)]
    with pytest.raises(ModelError, match=r"input 'H': axis 0 has the dynamic length 'm' that nobody bound"):
        workshop.imported(model)


def test_iterations_from_names_and_scopes(workshop: Any) -> None:
    for name in ("ista_tied", "scopes", "no_boundaries"):
        model = import_onnx(workshop.saved(name, 3))
        assert model.program.iterations == 3
        assert len({len(s.nodes) for s in model.program.segments}) == 1
        assert model.program.guessed == (name == "no_boundaries")


def test_origins_lead_back_to_the_file(workshop: Any) -> None:
    program = import_onnx(workshop.saved("ista_tied", 3)).program
    names = {n.name for n in onnx.load(workshop.saved("ista_tied", 3)).graph.node}
    assert all(n.origin.node in names for n in program.nodes())
    assert {n.origin.iteration for n in program.segments[1].nodes} == {1}


def test_outputs_called_iterates_are_dropped(workshop: Any) -> None:
    model = import_onnx(workshop.saved("iterates_given", 3))
    assert [p.name for p in model.outputs] == [onnx.load(workshop.saved("iterates_given", 3)).graph.output[0].name]


LIES = [
    "",
    "{",
    "[1]",
    '"text"',
    "1" * 5000,
    "[" * 5000,
    '{"iterates": 3}',
    '{"iterates": {"OUT": ["OUT"]}}',
    '{"iterates": {"OUT": "OUT"}}',
    '{"iterates": {"OUT": [["OUT"], 3, null]}}',
    '{"iterates": {"OUT": ["nowhere.iterate.3"]}, "iterations": -1, "states": [["OUT"], 5]}',
    '{"iterates": {"other": ["OUT"]}, "iterations": "many"}',
]


@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
def test_metadata_that_lie_change_nothing(workshop: Any, lie: str) -> None:
    plain = workshop.make("ista_tied", 2)
    name = plain.graph.output[0].name
    entry = plain.metadata_props.add()
    entry.key, entry.value = "unfoldc", lie.replace("OUT", name)
    model = workshop.imported(plain)
    assert [p.name for p in model.outputs] == [name]
    assert model.program.iterations == 2


def test_shape_arithmetic_is_carried_out(workshop: Any) -> None:
    """Torch's spelling of expand: a shape compared with -1 and chosen by Where."""
    g = workshop.Graph()
    y = g.input("y", "batch", 4)
    rows = g("Slice", g("Shape", y), g.weight("0", [0], "int64"), g.weight("1", [1], "int64"))
    wanted = g("Concat", rows, g.weight("minus", [-1], "int64"), axis=0)
    keep = g("Equal", wanted, g.weight("-1", [-1], "int64"))
    shape = g("Where", keep, g.weight("ones", [1, 1], "int64"), wanted)
    model = workshop.imported(g.model(g("Add", y, g("Expand", g.weight("x0", [[1, 2, 3, 4.0]]), shape))))
    assert [n.operator for n in model.program.nodes()] == ["Expand", "Add"]


def test_old_style_weights_among_the_inputs(workshop: Any) -> None:
    model = workshop.make("ista_tied", 2)
    for name in ("W1", "W2"):
        tensor = next(t for t in model.graph.initializer if t.name == name)
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, tensor.dims))
    assert [p.name for p in workshop.imported(model).inputs] == ["y"]


def test_dropout_and_casts_that_change_nothing_vanish(workshop: Any) -> None:
    g = workshop.Graph()
    y = g.input("y", "batch", 4)
    x = g("Cast", g("Dropout", g("CastLike", y, y)), to=TensorProto.FLOAT)
    assert [n.operator for n in workshop.imported(g.model(g("Relu", x))).program.nodes()] == ["Relu"]


def test_a_model_that_only_hands_on_its_input(workshop: Any) -> None:
    g = workshop.Graph()
    model = workshop.imported(g.model(g("Identity", g.input("y", "batch", 4))))
    assert model.program.outputs == ("y",) and model.program.iterations == 1


def test_an_output_without_elements_is_refused(workshop: Any) -> None:
    g = workshop.Graph()
    with pytest.raises(ModelError, match="it has no elements"):
        workshop.imported(g.model(g("Shape", g("ReduceSum", g.input("y", 4), keepdims=0))))
