"""If, Loop, Scan and functions of the model: read in place, and rolled again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from unfoldc.errors import ModelError
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.lower import lower
from unfoldc.kernels.pipeline import load_program
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.reading import control_flow

N, K = 4, 6
rng = np.random.default_rng(3)
W = (rng.standard_normal((N, N)) * 0.3).astype(np.float32)


def value(name: str, shape: Any = None, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name: str, array: Any) -> Any:
    return numpy_helper.from_array(np.asarray(array), name)


def saved(
    path: Path,
    nodes: list[Any],
    tensors: list[Any],
    outputs: list[str],
    inputs: list[Any] | None = None,
    **options: Any,
) -> Path:
    inputs = inputs if inputs is not None else [value("y", ["batch", N])]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_empty_tensor_value_info(o) for o in outputs], tensors)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9, **options), path / "m.onnx")
    return path / "m.onnx"


def agree(path: Path, segments: int, iterations: int) -> None:
    """The reference and the loops compute what ONNX Runtime does."""
    model, program = load_program(path)
    assert (program.iterations, len(program.segments)) == (iterations, segments), program.notes
    inputs = {
        p.name: np.random.default_rng(5).standard_normal((1, *p.shape) if p.batched else p.shape).astype(p.dtype)
        for p in model.inputs
    }
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = session.run(None, inputs)
    loops = lower(program)
    arguments = dict(zip(loops.inputs, (inputs[n] for n in program.inputs), strict=True))
    results = run(loops, arguments, program.iterations)
    for found, buffer, expected in zip(evaluate(program, inputs), loops.outputs, wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(results[buffer], expected, rtol=2e-5, atol=1e-6)


def step(x: str, out: str) -> list[Any]:
    return [helper.make_node("MatMul", [x, "W"], [f"{out}.p"]), helper.make_node("Tanh", [f"{out}.p"], [out])]


@pytest.mark.parametrize("taken", [True, False])
def test_the_branch_of_a_constant_condition(tmp_path: Path, taken: bool) -> None:
    branches = {
        "then_branch": helper.make_graph([helper.make_node("Neg", ["y"], ["r"])], "t", [], [value("r")]),
        "else_branch": helper.make_graph(
            [helper.make_node("Mul", ["y", "two"], ["r"])], "e", [], [value("r")], [tensor("two", np.float32(2))]
        ),
    }
    nodes = [helper.make_node("If", ["c"], ["x"], "choice", **branches)]
    agree(saved(tmp_path, nodes, [tensor("c", taken)], ["x"]), 1, 1)


def loop_body(stop: int | None = None, scanned: bool = True) -> Any:
    nodes = [*step("x_in", "x_out")]
    tensors = []
    if stop is None:
        nodes.append(helper.make_node("Identity", ["c_in"], ["c_out"]))
    else:
        nodes.append(helper.make_node("Less", ["i", "stop"], ["c_out"]))
        tensors.append(tensor("stop", np.int64(stop)))
    outputs = [value("c_out", [], TensorProto.BOOL), value("x_out")]
    if scanned:
        nodes.append(helper.make_node("ReduceSum", ["x_out", "axis"], ["s"], keepdims=0))
        tensors.append(tensor("axis", np.array([-1])))
        outputs.append(value("s"))
    inputs = [value("i", [], TensorProto.INT64), value("c_in", [], TensorProto.BOOL), value("x_in")]
    return helper.make_graph(nodes, "body", inputs, outputs, tensors)


@pytest.mark.parametrize(("count", "stop", "trips"), [(K, None, K), (10, 3, 4), (None, 3, 4)])
def test_trips_of_a_loop_are_iterations(tmp_path: Path, count: int | None, stop: int | None, trips: int) -> None:
    inputs = ["n" if count else "", "c", "y"]
    nodes = [helper.make_node("Loop", inputs, ["x", "sums"], "main", body=loop_body(stop))]
    tensors = [tensor("W", W), tensor("c", True), *([tensor("n", np.int64(count))] if count else [])]
    agree(saved(tmp_path, nodes, tensors, ["x", "sums"], [value("y", [2, N])]), 1, trips)


def test_a_loop_in_each_iteration(tmp_path: Path) -> None:
    nodes, x = [], "y"
    for k in range(K):
        body = loop_body(scanned=False)
        nodes.append(helper.make_node("Loop", ["n", "c", x], [f"l{k}"], f"iteration.{k}/inner", body=body))
        nodes.append(helper.make_node("Add", [f"l{k}", "y"], [f"x{k}"], f"iteration.{k}/add"))
        x = f"x{k}"
    tensors = [tensor("W", W), tensor("c", True), tensor("n", np.int64(3))]
    agree(saved(tmp_path, nodes, tensors, [x]), 1, K)


@pytest.mark.parametrize("direction", [0, 1])
def test_scan(tmp_path: Path, direction: int) -> None:
    """A stream goes in, one estimate comes out of each trip."""
    nodes = [
        *step("x_in", "p"),
        helper.make_node("Add", ["p", "y_k"], ["x_out"]),
        helper.make_node("Neg", ["x_out"], ["e"]),
    ]
    body = helper.make_graph(nodes, "b", [value("x_in"), value("y_k")], [value("x_out"), value("e")])
    scan = helper.make_node(
        "Scan",
        ["x0", "ys"],
        ["x", "es"],
        "main",
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_input_directions=[direction],
        scan_output_axes=[1],
    )
    inputs = [value("x0", ["batch", N]), value("ys", ["batch", K, N])]
    agree(saved(tmp_path, [scan], [tensor("W", W)], ["x", "es"], inputs), 1, K)


def test_functions_of_the_model(tmp_path: Path) -> None:
    attribute = helper.make_node("LeakyRelu", ["b"], ["z"])
    attribute.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    body = [helper.make_node("MatMul", ["a", "w"], ["b"]), attribute]
    function = helper.make_function("mine", "Step", ["a", "w"], ["z"], body, [helper.make_opsetid("", 18)], ["slope"])
    twice = helper.make_function(
        "mine",
        "Twice",
        ["a", "w"],
        ["z"],
        [
            helper.make_node("Step", ["a", "w"], ["b"], domain="mine", slope=0.5),
            helper.make_node("Step", ["b", "w"], ["z"], domain="mine", slope=0.2),
        ],
        [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)],
    )
    nodes, x = [], "y"
    for k in range(K):
        nodes.append(helper.make_node("Twice", [x, "W"], [f"x{k}"], f"iteration.{k}/twice", domain="mine"))
        x = f"x{k}"
    agree(saved(tmp_path, nodes, [tensor("W", W)], [x], functions=[function, twice]), 1, K)


def refused(path: Path, text: str) -> None:
    with pytest.raises(ModelError, match=text) as caught:
        load_program(path)
    assert "main" in str(caught.value)


def test_what_depends_on_data_is_refused(tmp_path: Path) -> None:
    tensors = [tensor("W", W), tensor("c", True)]
    inputs = [value("y", ["batch", N]), value("n", [], TensorProto.INT64), value("c2", [], TensorProto.BOOL)]
    loop = helper.make_node("Loop", ["n", "c", "y"], ["x"], "main", body=loop_body(scanned=False))
    refused(saved(tmp_path, [loop], tensors, ["x"], inputs), "the number of trips .'n'. is computed at run time")
    loop = helper.make_node("Loop", ["", "", "y"], ["x"], "main", body=loop_body(scanned=False))
    refused(saved(tmp_path, [loop], tensors, ["x"]), "neither a number of trips nor a condition")
    branch = helper.make_graph([helper.make_node("Neg", ["y"], ["r"])], "t", [], [value("r")])
    choice = helper.make_node("If", ["c2"], ["x"], "main", then_branch=branch, else_branch=branch)
    refused(saved(tmp_path, [choice], tensors, ["x"], inputs), "its condition .'c2'. is computed at run time")


def test_loops_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_flow, "_MOST_NODES", 300)
    for count in (2**62, 0):
        tensors = [tensor("W", W), tensor("c", True), tensor("n", np.int64(count))]
        loop = helper.make_node("Loop", ["n", "c", "y"], ["x", "s"], "main", body=loop_body())
        text = "still runs after .* trips" if count else "never runs"
        refused(saved(tmp_path, [loop], tensors, ["x", "s"]), text)


def test_functions_that_call_themselves_are_refused(tmp_path: Path) -> None:
    call = helper.make_node("Again", ["a"], ["z"], domain="mine")
    function = helper.make_function("mine", "Again", ["a"], ["z"], [call], [helper.make_opsetid("mine", 1)])
    nodes = [helper.make_node("Again", ["y"], ["x"], "main", domain="mine")]
    refused(saved(tmp_path, nodes, [], ["x"], functions=[function]), "functions inside functions too deep")


def test_functions_that_grow_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each calls the one before twice: thirty of them are a thousand million nodes."""
    monkeypatch.setattr(control_flow, "_MOST_NODES", 300)
    own, base = helper.make_opsetid("mine", 1), helper.make_opsetid("", 18)
    functions = [helper.make_function("mine", "F0", ["a"], ["z"], [helper.make_node("Neg", ["a"], ["z"])], [base])]
    for i in range(1, 30):
        calls = [helper.make_node(f"F{i - 1}", [a], [z], domain="mine") for a, z in (("a", "b"), ("b", "z"))]
        functions.append(helper.make_function("mine", f"F{i}", ["a"], ["z"], calls, [own]))
    nodes = [helper.make_node("F29", ["y"], ["x"], "main", domain="mine")]
    refused(saved(tmp_path, nodes, [], ["x"], functions=functions), "make too many nodes")
