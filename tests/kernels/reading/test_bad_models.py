"""Models that cannot be compiled: each is refused with its place, what was found, what is allowed and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from unfoldc.errors import ModelError
from unfoldc.kernels.reading.from_onnx import import_onnx


def _unary(workshop: Any, **node: Any) -> onnx.ModelProto:
    g = workshop.Graph()
    return g.model(g("Relu", g.input("y", "batch", 4), **node))


def node(model: onnx.ModelProto, **changes: Any) -> None:
    """Changes the only node of a model `v0 = Relu(y)`."""
    made = model.graph.node[0]
    for name in ("input", "output"):
        if name in changes:
            getattr(made, name)[:] = changes.pop(name)
    attributes = changes.pop("attributes", {})
    made.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    for name, value in changes.items():
        setattr(made, name, value)


def another(model: onnx.ModelProto, result: str) -> None:
    model.graph.node.append(helper.make_node("Neg", ["y"], [result]))


def tensor(model: onnx.ModelProto) -> onnx.TypeProto.Tensor:
    return model.graph.input[0].type.tensor_type


def later(model: onnx.ModelProto) -> None:
    another(model, "later")
    node(model, input=["later"])


def made_again(model: onnx.ModelProto) -> None:
    node(model, output=["y"])
    model.graph.output[0].name = "y"


def sequence(model: onnx.ModelProto) -> None:
    kind = model.graph.input[0].type
    kind.CopyFrom(helper.make_sequence_type_proto(kind))


def old_with_new(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 13
    node(model, op_type="CastLike", input=["y", "y"])


GRAPH = helper.make_graph([], "g", [], [])
BAD: dict[str, tuple[Callable[[onnx.ModelProto], Any], str]] = {
    "unknown operator": (
        lambda m: node(m, op_type="Frobnicate"),
        r"Relu_0 \(Frobnicate\): the operator Frobnicate is not known.*inspect --operators",
    ),
    "unknown domain": (lambda m: node(m, domain="evil.example"), "evil.example.Relu is not known"),
    "loop": (lambda m: node(m, op_type="Loop", attributes={"body": GRAPH}), "Loop takes 2 to"),
    "graph attribute": (lambda m: node(m, attributes={"body": GRAPH}), "Relu has no attribute 'body'"),
    "wrong attribute": (
        lambda m: node(m, op_type="LeakyRelu", attributes={"alpha": [1.0, 2.0]}),
        "attribute 'alpha' of LeakyRelu is of another kind",
    ),
    "no such input": (lambda m: node(m, input=["nothing"]), "reads 'nothing', which nothing before it makes"),
    "left out input": (lambda m: node(m, input=[""]), "it has 0 inputs"),
    "too many inputs": (lambda m: node(m, input=["y", "y"]), "it has 2 inputs, Relu takes 1 to 1"),
    "no outputs": (lambda m: node(m, output=[]), "it has 0 results"),
    "cycle": (lambda m: node(m, input=["v0"]), "reads 'v0', which nothing before it makes"),
    "unsorted": (later, "it reads 'later', which|the value 'later'"),
    "made twice": (lambda m: another(m, "v0"), "the value 'v0' is made a second time"),
    "input made again": (made_again, "the value 'y' is made a second time"),
    "input twice": (lambda m: m.graph.input.append(m.graph.input[0]), "input 'y': the value 'y' is made a second time"),
    "output twice": (lambda m: m.graph.output.append(m.graph.output[0]), "output 'v0': the name is given twice"),
    "nobody makes it": (lambda m: setattr(m.graph.output[0], "name", "z"), "output 'z': nothing makes it"),
    "dynamic": (
        lambda m: setattr(tensor(m).shape.dim[1], "dim_param", "width"),
        "input 'y': axis 1 has the dynamic length 'width' that nobody bound.*dimensions={'width': n}",
    ),
    "nameless": (lambda m: tensor(m).shape.dim[1].ClearField("dim_value"), r"axis 1 has the dynamic length '\?'"),
    "no shape": (lambda m: tensor(m).ClearField("shape"), "input 'y': it has no shape"),
    "empty axis": (lambda m: setattr(tensor(m).shape.dim[1], "dim_value", 0), "axis 1 has length 0"),
    "negative axis": (lambda m: setattr(tensor(m).shape.dim[1], "dim_value", -4), "axis 1 has length -4"),
    "huge": (lambda m: setattr(tensor(m).shape.dim[1], "dim_value", 2**40), "has 1099511627776 elements"),
    "half": (
        lambda m: setattr(tensor(m), "elem_type", TensorProto.FLOAT16),
        "input 'y': its type is not supported; allowed: tensors of float32",
    ),
    "unknown type": (lambda m: setattr(tensor(m), "elem_type", 77), "its type is not supported"),
    "sequence": (sequence, "its type is not supported"),
    "truth values": (
        lambda m: setattr(tensor(m), "elem_type", TensorProto.BOOL),
        r"input 0 \(X\) is bool, which Relu does not take",
    ),
    "old": (lambda m: setattr(m.opset_import[0], "version", 12), "operator set 12; allowed: one of 13 to 26"),
    "new": (lambda m: setattr(m.opset_import[0], "version", 99), "operator set 99"),
    "no operator set": (lambda m: m.ClearField("opset_import"), "0 versions of the operator set"),
    "two operator sets": (lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 17)), "2 versions"),
    "operator of a later set": (old_with_new, "operator set 13 has no CastLike"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_with_place_and_remedy(workshop: Any, name: str) -> None:
    change, text = BAD[name]
    model = _unary(workshop)
    change(model)
    with pytest.raises(ModelError, match=text) as caught:
        workshop.imported(model)
    error = caught.value
    assert "model.onnx" in error.where and error.found and error.allowed and error.do
    assert "\n" not in str(error)


def one(workshop: Any, operator: str, *inputs: tuple[str, Any], **attributes: Any) -> onnx.ModelProto:
    """`operator` applied to a run-time input y of shape (batch, 4) and constants."""
    g = workshop.Graph(opset=20)
    names = [g.weight(f"c{i}", value, dtype) for i, (dtype, value) in enumerate(inputs)]
    return g.model(g(operator, g.input("y", "batch", 4), *names, **attributes))


UNFIT: list[tuple[str, list[tuple[str, Any]], dict[str, Any], str]] = [
    ("MatMul", [("float32", np.ones((3, 2)))], {}, r"'y' float32\[1, 4\], 'c0' float32\[3, 2\] do not fit"),
    ("Add", [("float32", np.ones(3))], {}, "do not fit"),
    ("Add", [("float64", 1.0)], {}, r"input 1 \(B\) is float64, the inputs before it are float32"),
    ("Reshape", [("int64", [3, -1])], {}, r"\[1, 4\] cannot be reshaped to \[3, -1\]"),
    ("Reshape", [("int64", [-1, -1])], {}, "cannot be reshaped"),
    ("Reshape", [("int64", [0, 0, 0])], {}, "do not fit"),
    ("Gather", [("int64", 4)], {"axis": 1}, "indices from 4 to 4 on an axis of 4"),
    ("Gather", [("int64", 0)], {"axis": 2}, "axis 2 of a value with 2 axes"),
    ("Concat", [("float32", np.ones((2, 3)))], {"axis": 1}, "may differ along the joined axis only"),
    ("Concat", [], {"axis": 5}, "axis 5"),
    ("Concat", [], {}, "attribute 'axis' is missing"),
    ("Transpose", [], {"perm": [0, 0]}, "do not fit"),
    ("Transpose", [], {"perm": [0]}, "do not fit"),
    ("Squeeze", [("int64", [1])], {}, "do not fit"),
    ("Unsqueeze", [("int64", [0, 0])], {}, "do not fit"),
    ("Flatten", [], {"axis": 3}, "axis 3"),
    ("ReduceSum", [("int64", [2])], {}, "reduction over axes"),
    ("Slice", [("int64", [0]), ("int64", [1]), ("int64", [0]), ("int64", [0])], {}, "do not fit"),
    ("Slice", [("int64", [1]), ("int64", [1]), ("int64", [1])], {}, "has no elements"),
    ("Expand", [("int64", [2**40, 4])], {}, "elements"),
    ("Expand", [("int64", [2**62, 2**62])], {}, "do not fit|elements"),
    ("Expand", [("int64", [-1, 4])], {}, "do not fit"),
    ("Cast", [], {"to": TensorProto.FLOAT16}, "a cast to type number 10"),
    ("Cast", [], {"to": 12345}, "a cast to type number 12345"),
    ("Clip", [("float32", [1.0])], {}, "a bound of Clip is one number"),
    ("Gemm", [("float32", np.ones((4, 2))), ("float32", np.ones((3, 2)))], {}, "a bias of shape"),
    ("LeakyRelu", [], {"alpha": float("nan")}, "attribute 'alpha' is NaN"),
    ("Dropout", [("float32", 0.5), ("bool", True)], {}, "drops values at random"),
]


@pytest.mark.parametrize(("operator", "inputs", "attributes", "text"), UNFIT, ids=range(len(UNFIT)))
def test_shapes_that_do_not_fit(
    workshop: Any, operator: str, inputs: list[tuple[str, Any]], attributes: dict[str, Any], text: str
) -> None:
    with pytest.raises(ModelError, match=text):
        workshop.imported(one(workshop, operator, *inputs, **attributes))


def test_a_shape_computed_from_data(workshop: Any) -> None:
    g = workshop.Graph()
    y, n = g.input("y", "batch", 4), g.input("n", 2, dtype="int64")
    with pytest.raises(ModelError, match=r"input 1 \('n'\) decides a shape but is computed at run time"):
        workshop.imported(g.model(g("Reshape", y, n)))


def test_integer_division_at_run_time(workshop: Any) -> None:
    g = workshop.Graph()
    n = g.input("n", 4, dtype="int64")
    with pytest.raises(ModelError, match="it works on int64 at run time; allowed: float32, float64"):
        workshop.imported(g.model(g("Cast", g("Div", n, g.weight("2", [2], "int64")), to=TensorProto.FLOAT)))


@pytest.mark.parametrize(
    "constant",
    [{}, {"value_string": "text"}, {"value_float": float("nan")}, {"value_int": 1, "value_float": 1.0}],
    ids=str,
)
def test_constants_that_are_none(workshop: Any, constant: dict[str, Any]) -> None:
    g = workshop.Graph()
    with pytest.raises(ModelError, match="allowed"):
        workshop.imported(g.model(g("Add", g.input("y", "batch", 4), g("Constant", **constant))))


def test_ranges(workshop: Any) -> None:
    for numbers, text in (((0, 2**40, 1), "elements"), ((0, 5, 0), "steps of 0"), ((0, float("inf"), 1), "do not fit")):
        g = workshop.Graph()
        ends = [g.weight(f"c{i}", value) for i, value in enumerate(numbers)]
        with pytest.raises(ModelError, match=text):
            workshop.imported(g.model(g("Add", g.input("y", "batch", 4), g("Range", *ends))))


@pytest.mark.parametrize("batch", [0, -3, 2.0, True, "many", [2]], ids=repr)
def test_batch_options(workshop: Any, batch: Any) -> None:
    with pytest.raises(ModelError, match=r'batch=.*allowed: a positive number, "dynamic" or None'):
        import_onnx(workshop.saved("ista_tied", 1), batch=batch)


@pytest.mark.parametrize("length", [0, -3, 2.0, "4", None], ids=repr)
def test_dimension_options(workshop: Any, length: Any) -> None:
    with pytest.raises(ModelError, match="dimensions=.*allowed: positive lengths"):
        import_onnx(workshop.saved("ista_tied", 1), dimensions={"batch": length})


def test_a_huge_input_that_nobody_computes_with(workshop: Any) -> None:
    g = workshop.Graph()
    g.input("rest", 2**30)
    with pytest.raises(ModelError, match="input 'rest': .* has 1073741824 elements; allowed: at most 268435456"):
        workshop.imported(g.model(g("Relu", g.input("y", 4))))


def test_constants_that_grow_without_data(workshop: Any) -> None:
    """A few bytes that ask for gigabytes of folded constants."""
    g = workshop.Graph()
    y = g.input("y", 2**14)
    column = g("Reshape", g("ConstantOfShape", g.weight("n", [2**14], "int64")), g.weight("c", [-1, 1], "int64"))
    for _ in range(3):
        column = g("Add", column, g.weight("row", np.zeros(2**13)))
        column = g("Slice", column, *(g.weight(f"{i}", [i], "int64") for i in (0, 1, 1)))
    g("Add", y, column, out="out")
    with pytest.raises(
        ModelError, match="computed from constants alone has .* elements by now; allowed: at most 134217"
    ):
        workshop.imported(g.model("out"))


def test_sparse_weights(workshop: Any) -> None:
    model = _unary(workshop)
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    with pytest.raises(ModelError, match="stores sparse tensors"):
        workshop.imported(model)


HOSTILE = ['"; system("rm -rf /"); /*', "a\nb", "*/ int main() {", "\x1b[31m", "%s%n", "''", "‮", "x" * 10_000]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_only_names(workshop: Any, name: str) -> None:
    model = workshop.make("ista_untied", 2)
    for node in model.graph.node:
        node.name = node.name.replace("Relu", name)
        for names in (node.input, node.output):
            names[:] = [name if n == "y" else n + name for n in names]
    for tensor in model.graph.initializer:
        tensor.name += name
    model.graph.input[0].name = name
    model.graph.output[0].name += name
    imported = workshop.imported(model)
    assert imported.inputs[0].name == name
    model.graph.node[-1].op_type = name
    with pytest.raises(ModelError) as caught:
        workshop.imported(model)
    assert str(caught.value).isprintable()
