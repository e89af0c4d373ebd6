"""Models that once compiled to something else than they say: each must be right or be refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from unfoldc.errors import ModelError
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.lower import lower
from unfoldc.kernels.pipeline import load_program, optimise

N = 4


def save(path: Path, nodes: list[Any], constants: dict[str, np.ndarray], output: list[Any]) -> Path:
    inputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", N])]
    outputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, output)]
    tensors = [numpy_helper.from_array(v, k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


def node(operator: str, inputs: list[str], output: str, name: str, **attributes: Any) -> Any:
    return helper.make_node(operator, inputs, [output], name=name, **attributes)


@pytest.mark.parametrize(
    ("nodes", "constants", "output"),
    [
        ([node("Transpose", ["y"], "x", "end/t", perm=[1, 0])], {}, [N, "batch"]),
        ([node("Unsqueeze", ["y", "zero"], "x", "end/u")], {"zero": np.array([0])}, [1, "batch", N]),
        ([node("Slice", ["y", "zero", "two", "zero"], "x", "end/s")],
         {"zero": np.array([0]), "two": np.array([2])}, ["some", N]),
        ([node("Slice", ["y", "minus", "most", "zero"], "x", "end/s")],
         {"zero": np.array([0]), "minus": np.array([-2]), "most": np.array([99])}, ["some", N]),
    ],
    ids=["batch axis last", "batch axis second", "the first two problems", "the last two problems"],
)  # fmt: skip
def test_problems_that_are_not_stacked_along_the_first_axis_are_refused(
    tmp_path: Path, nodes: list[Any], constants: dict[str, np.ndarray], output: list[Any]
) -> None:
    with pytest.raises(ModelError, match="couples the problems of a batch"):
        load_program(save(tmp_path / "m.onnx", nodes, constants, output))


def test_what_depends_on_the_number_of_problems_from_three_on_is_refused(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["y"], "count", "begin/count", start=0, end=1),
        node("Sub", ["count", "two"], "more", "begin/more"),
        node("Max", ["more", "zero"], "rest", "begin/rest"),
        node("Cast", ["rest"], "number", "begin/number", to=TensorProto.FLOAT),
        node("Add", ["y", "number"], "x", "end/x"),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"two": np.array([2]), "zero": np.array([0])}, ["batch", N])
    with pytest.raises(ModelError, match="number of problems"):
        load_program(path)


def test_an_iterate_that_could_be_one_of_two_is_not_guessed(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    nodes, constants, x, u, last = [], {"x0": np.zeros((1, N), np.float32)}, "x0", "x0", 3
    for k in range(last + 1):
        at = f"iteration.{k}/"
        constants[f"V{k}"] = rng.standard_normal((N, N)).astype(np.float32)
        nodes += [
            node("Add", [x, u], f"s{k}", at + "s"),
            node("Add", [f"s{k}", "y"], f"d{k}", at + "d"),
            node("MatMul", [f"d{k}", f"V{k}"], f"p{k}", at + "p"),
            node("Tanh", [f"p{k}"], f"x{k + 1}", at + "x"),
        ]
        if k < last:  # as exporters leave out what nobody reads
            constants[f"W{k}"] = rng.standard_normal((N, N)).astype(np.float32)
            nodes.append(node("MatMul", [f"d{k}", f"W{k}"], f"q{k}", at + "q"))
            nodes.append(node("Tanh", [f"q{k}"], f"u{k + 1}", at + "u"))
        x, u = f"x{k + 1}", f"u{k + 1}"
    nodes.append(node("Identity", [x], "x", "end/x"))
    _, program = load_program(save(tmp_path / "m.onnx", nodes, constants, ["batch", N]))
    assert "more than one part" in program.early_stop


def test_minus_zero_is_a_number_of_its_own(tmp_path: Path) -> None:
    constants = {"z": np.array([0.0, -0.0, 0.0, 0.0], np.float32)}
    nodes = [node("Div", ["y", "z"], "q", "iteration.0/q"), node("Tanh", ["q"], "x", "iteration.0/x")]
    model, program = load_program(save(tmp_path / "m.onnx", nodes, constants, ["batch", N]))
    loops = lower(optimise(model.program))
    found = run(loops, {loops.inputs[0]: np.ones((1, N), np.float32)})
    assert program.iterations == 1
    np.testing.assert_array_equal(found[loops.outputs[0]], [[1, -1, 1, 1]])


def test_joins_of_joins_compile_in_no_time(tmp_path: Path) -> None:
    nodes, x = [], "y"
    for k in range(40):
        nodes.append(node("Concat", [x, x], f"c{k}", f"begin/c{k}", axis=1))
        nodes.append(node("Slice", [f"c{k}", "a", "b", "one"], f"t{k}", f"begin/t{k}"))
        x = f"t{k}"
    nodes.append(node("Neg", [x], "x", "end/x"))
    constants = {"a": np.array([2]), "b": np.array([6]), "one": np.array([1])}
    _, program = load_program(save(tmp_path / "m.onnx", nodes, constants, ["batch", N]))
    loops = lower(program)
    y = np.arange(N, dtype=np.float32)[None]
    np.testing.assert_array_equal(run(loops, {loops.inputs[0]: y})[loops.outputs[0]], -y)
