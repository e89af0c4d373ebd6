"""Every operator of the table means what ONNX says, in the reference and in the loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from operator_cases.linear_algebra import exact

from unfoldc.kernels.expansions import EXPANSIONS
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.lower import lower
from unfoldc.kernels.operators import INTERNAL_OPERATORS, OPERATORS
from unfoldc.kernels.operators.table import Operator, given, register, result_types
from unfoldc.kernels.passes.roll_iterations import roll_iterations
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.program import Node, Origin, Program, Segment, TensorType
from unfoldc.kernels.reading.from_onnx import ImportedModel, import_onnx
from unfoldc.kernels.verify import verify_loops, verify_program


def model_of(case: Any) -> onnx.ModelProto:
    last = max((*case.inputs, *case.constants), default=-1)
    names = [f"x{i}" if i in case.inputs or i in case.constants else "" for i in range(last + 1)]
    attributes = dict(case.attributes)
    if "value" in attributes:
        attributes["value"] = numpy_helper.from_array(attributes["value"], "value")
    domain, _, operator = case.operator.rpartition(".")
    results = [f"out{i}" for i in range(case.results)]
    node = helper.make_node(operator, names, results, name="the node", domain=domain, **attributes)
    inputs = [
        helper.make_tensor_value_info(f"x{i}", helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for i, v in case.inputs.items()
    ]
    constants = [numpy_helper.from_array(v, f"x{i}") for i, v in case.constants.items()]
    outputs = [helper.make_empty_tensor_value_info(f"out{i}") for i in range(case.results)]
    graph = helper.make_graph([node], "one", inputs, outputs, constants)
    versions = [helper.make_opsetid("", case.opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=versions, ir_version=10)


def arguments(case: Any) -> dict[str, np.ndarray]:
    return {f"x{i}": v for i, v in case.inputs.items()}


def imported(case: Any, workshop: Any) -> ImportedModel:
    return import_onnx(workshop.save(model_of(case), "one.onnx"))


def same(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def oracle(case: Any) -> list[np.ndarray]:
    model = model_of(case)
    if "." in case.operator:
        return [exact(case.operator, case.inputs, case.attributes)]
    if case.oracle == "onnxruntime":
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        return list(session.run(None, arguments(case)))
    with np.errstate(all="ignore"):
        return list(ReferenceEvaluator(model).run(None, arguments(case)))


def test_means_what_onnx_says(operator_case: Any, workshop: Any) -> None:
    model = imported(operator_case, workshop)
    verify_program(model.program)
    found = evaluate(model.program, arguments(operator_case), dtype=None)
    for one, other in zip(found, oracle(operator_case), strict=True):
        same(np.asarray(one), np.asarray(other))


def test_loops_compute_the_same(operator_case: Any, workshop: Any) -> None:
    program = roll_iterations(imported(operator_case, workshop).program)
    loops = lower(program)
    verify_loops(loops)
    inputs = arguments(operator_case)
    found = run(loops, dict(zip(loops.inputs, (inputs[n] for n in program.inputs), strict=True)))
    for buffer, wanted in zip(loops.outputs, evaluate(program, inputs, dtype=None), strict=True):
        same(found[buffer], np.asarray(wanted))


def test_types_are_found_without_computing(operator_case: Any, workshop: Any) -> None:
    """Otherwise a few bytes in a file could ask for any amount of memory."""
    for node in roll_iterations(imported(operator_case, workshop).program).nodes():
        if node.operator == operator_case.operator:
            break
    else:
        return  # carried out at import
    operator = OPERATORS[node.operator]
    values = {**operator_case.inputs, **operator_case.constants}
    inputs = [values.get(i) for i in range(max(values) + 1)]
    types = [None if v is None else TensorType(str(v.dtype), v.shape) for v in inputs]
    known = [v if i in operator_case.constants else None for i, v in enumerate(inputs)]
    with np.errstate(all="ignore"):
        results = operator.evaluate(node.attributes, inputs)
    assert result_types(operator, node.attributes, types, known) == tuple(
        TensorType(str(r.dtype), r.shape) for r in results
    )


def test_every_operator_has_cases(operator_cases: Any) -> None:
    assert {c.operator for c in operator_cases} == {*OPERATORS, *EXPANSIONS} - INTERNAL_OPERATORS


SHAPED = ("Shape", "Size")


@pytest.mark.parametrize("operator", SHAPED)
def test_what_import_carries_out_has_loops_too(operator: str) -> None:
    types = {"x": TensorType("float32", (2, 3)), "out": TensorType("int64", (2,) if operator == "Shape" else ())}
    node = Node(operator, ("x",), ("out",), {}, Origin("n", operator))
    program = Program(("x",), ("out",), types, {}, (), (Segment(0, 1, ()),), (node,), rolled=True)
    verify_program(program)
    (found,) = run(lower(program), {"input_0": np.zeros((2, 3), np.float32)}).values()
    assert found.tolist() == ([2, 3] if operator == "Shape" else 6)


def test_nan_passes_a_threshold_of_any_spelling(workshop: Any) -> None:
    """A diverging solver must be seen: ONNX's Shrink would answer 0."""
    nan = np.array([np.nan, 3], np.float32)
    for operator, attributes in (
        ("Shrink", {"lambd": 1.0, "bias": 1.0}),
        ("Relu", {}),
        ("LeakyRelu", {}),
        ("Sign", {}),
    ):
        g = workshop.Graph(opset=20)
        program = roll_iterations(workshop.imported(g.model(g(operator, g.input("x", 2), **attributes))).program)
        (wanted,) = evaluate(program, {"x": nan})
        (found,) = run(lower(program), {"input_0": nan}).values()
        assert np.isnan(wanted[0]) and np.isnan(found[0]) and found[1] == wanted[1]


@pytest.mark.parametrize("index", [7, -9, 2**40, -(2**40)])
def test_an_index_from_data_stays_inside(workshop: Any, index: int) -> None:
    g = workshop.Graph()
    model = g.model(g("Gather", g.input("x", 4), g.input("i", 1, dtype="int64")))
    program = roll_iterations(workshop.imported(model).program)
    inputs = {"x": np.arange(4, dtype=np.float32), "i": np.array([index])}
    (wanted,) = evaluate(program, inputs)
    (found,) = run(lower(program), dict(zip(("input_0", "input_1"), inputs.values(), strict=True))).values()
    assert found == wanted == (3 if index > 0 else 0)


def test_flops(workshop: Any) -> None:
    """A product and its addition count as two; views are free."""
    vector, matrix = TensorType("float32", (1, 5)), TensorType("float32", (5, 3))
    result = TensorType("float32", (1, 3))
    assert OPERATORS["MatMul"].flops([vector, matrix], result) == 30
    assert OPERATORS["Gemm"].flops([vector, matrix, result], result) == 30
    assert OPERATORS["Add"].flops([result, result], result) == 3
    assert OPERATORS["ReduceSum"].flops([vector], TensorType("float32", (1,))) == 5
    assert OPERATORS["Transpose"].flops([matrix], matrix) == 0


def test_registering_twice_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="Add is registered twice"):
        register(Operator("Add", "pointwise", lambda a, v: (), lambda low, n, at: at[0]))


def test_a_missing_input_is_named() -> None:
    with pytest.raises(ValueError, match="input 1 is missing"):
        given([TensorType("float32", ())], 1)
