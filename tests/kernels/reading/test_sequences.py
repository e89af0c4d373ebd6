"""Sequences of tensors exist only while a model is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from unfoldc.errors import ModelError
from unfoldc.kernels.pipeline import load_program
from unfoldc.kernels.printers.reference import evaluate

X = np.random.default_rng(2).standard_normal((2, 6, 3)).astype(np.float32)


def saved(path: Path, nodes: list[Any], constants: dict[str, Any], outputs: list[str], inputs: list[Any]) -> Path:
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_empty_tensor_value_info(o) for o in outputs], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path / "m.onnx")
    return path / "m.onnx"


def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(operator, inputs, [output], output, **attributes)


def agree(path: Path, outputs: int) -> None:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = evaluate(load_program(path)[1], {"x": X}, dtype=None)
    assert len(found) == outputs
    for one, other in zip(found, session.run(None, {"x": X}), strict=True):
        np.testing.assert_array_equal(one, other)


def x(kind: int = TensorProto.FLOAT) -> list[Any]:
    return [helper.make_tensor_value_info("x", kind, X.shape)]


@pytest.mark.parametrize(("split", "keepdims"), [(None, 0), (None, 1), (2, 1), (4, 1), ([1, 5], 1)])
def test_split(tmp_path: Path, split: Any, keepdims: int) -> None:
    inputs = ["x"] if split is None else ["x", "split"]
    nodes = [
        node("SplitToSequence", inputs, "parts", axis=1, keepdims=keepdims),
        node("SequenceAt", ["parts", "first"], "a"),
        node("SequenceAt", ["parts", "last"], "b"),
        node("SequenceLength", ["parts"], "n"),
    ]
    constants: dict[str, Any] = {"first": np.int64(0), "last": np.int64(-1)}
    if split is not None:
        constants["split"] = np.array(split, np.int64)
    agree(saved(tmp_path, nodes, constants, ["a", "b", "n"], x()), 3)


@pytest.mark.parametrize("new_axis", [0, 1])
def test_construct_insert_and_join(tmp_path: Path, new_axis: int) -> None:
    nodes = [
        node("Neg", ["x"], "y"),
        node("Abs", ["x"], "z"),
        node("SequenceConstruct", ["x", "y"], "s"),
        node("SequenceInsert", ["s", "z", "one"], "t"),
        node("SequenceInsert", ["t", "x"], "u"),
        node("ConcatFromSequence", ["u"], "joined", axis=1, new_axis=new_axis),
    ]
    agree(saved(tmp_path, nodes, {"one": np.int64(1)}, ["joined"], x()), 1)


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ([node("SequenceConstruct", ["x"], "s"), node("SequenceAt", ["s", "two"], "a")], "position 2 of 1"),
        ([node("SequenceAt", ["x", "two"], "a")], "input 0 is no sequence"),
        ([node("SequenceAt", ["nobody", "two"], "a")], "nothing before it makes"),
        ([node("SequenceConstruct", ["x"], "s"), node("SequenceAt", ["s", "i"], "a")], "must be a constant"),
        (
            [node("SplitToSequence", ["x", "bad"], "s"), node("SequenceAt", ["s", "two"], "a")],
            "cannot be split",
        ),
        ([node("SequenceConstruct", ["x"], "s"), node("Neg", ["s"], "a")], "nothing before it makes"),
        ([node("SequenceConstruct", ["x"], "a")], "nothing makes it"),
    ],
)
def test_refused(tmp_path: Path, nodes: list[Any], text: str) -> None:
    inputs = [*x(), helper.make_tensor_value_info("i", TensorProto.INT64, [])]
    constants = {"two": np.int64(2), "bad": np.array([1, 2])}
    with pytest.raises(ModelError, match=text):
        load_program(saved(tmp_path, nodes, constants, ["a"], inputs))
