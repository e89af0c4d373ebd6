"""Files that nobody vouches for: each is read, or refused with a ModelError, and nothing else happens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from unfoldc.errors import ModelError
from unfoldc.kernels.pipeline import load_program
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.kernels.reading.onnx_file import attributes_of, external_files, read_model, tensor_array


def refused(path: Path, text: str) -> ModelError:
    with pytest.raises(ModelError, match=text) as caught:
        import_onnx(path)
    error = caught.value
    assert error.where and error.found and error.allowed and error.do
    assert str(error).isprintable()
    return error


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "holds no graph with outputs"),
        (b"\n", "not an ONNX file, or it is truncated|holds no graph"),
        (b"not a model at all", "not an ONNX file, or it is truncated"),
        (b"\x80\x05}q\x00.", "not an ONNX file|holds no graph"),
        (b'{"json": true}', "not an ONNX file|holds no graph"),
        (bytes(range(256)), "not an ONNX file"),
        (b"\x3a" * 2000, "not an ONNX file"),
    ],
    ids=range(7),
)
def test_other_files(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(path, text)


def test_no_files(tmp_path: Path) -> None:
    refused(tmp_path / "absent.onnx", r"cannot be read \(No such file or directory\)")
    refused(tmp_path, "this is not a file")
    refused(tmp_path / "a\0b", "cannot be read")
    refused(tmp_path / ("x" * 5000), "cannot be read")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "this is not a file")
    refused(Path("/dev/zero"), "this is not a file")


def test_more_than_two_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(2**31 + 1)  # sparse: takes no space
    refused(path, "the file has 2147483649 bytes; allowed: at most 2 GiB")


@pytest.mark.parametrize("name", ["fista", "step_from_table", "iterates_given"])
def test_truncated_anywhere(workshop: Any, tmp_path: Path, name: str) -> None:
    data = workshop.saved(name, 2).read_bytes()
    path = tmp_path / "model.onnx"
    for end in range(0, len(data), max(1, len(data) // 150)):
        path.write_bytes(data[:end])
        refused(path, "truncated|no graph with outputs|operator set")


@pytest.mark.parametrize("name", ["fista", "matrices", "step_from_table", "iterates_given", "scopes"])
def test_damaged_anywhere(workshop: Any, tmp_path: Path, name: str) -> None:
    """Whatever bytes change, the outcome is a program that runs or a ModelError."""
    rng = np.random.default_rng(len(name))
    data = np.frombuffer(workshop.saved(name, 2).read_bytes(), np.uint8)
    path = tmp_path / "model.onnx"
    read = 0
    for _ in range(120):
        damaged = data.copy()
        places = rng.integers(0, data.size, rng.integers(1, 4))
        damaged[places] = (
            rng.integers(0, 256, places.size) if rng.random() < 0.5 else damaged[places] ^ 1 << rng.integers(8)
        )
        path.write_bytes(damaged.tobytes())
        try:
            model, program = load_program(path)
            evaluate(program, {n: np.zeros(program.types[n].shape, program.types[n].dtype) for n in program.inputs})
            read += 1
        except ModelError as error:
            assert str(error).isprintable()
    assert 0 < read < 120


def test_pieces_removed_doubled_or_swapped(workshop: Any) -> None:
    rng = np.random.default_rng(3)
    for _ in range(120):
        model = workshop.make("admm", 2)
        graph = model.graph
        lists: list[Any] = [graph.node, graph.initializer, graph.input, graph.output]
        items = lists[rng.integers(4)]
        i, j = rng.integers(0, len(items), 2)
        match rng.integers(5):
            case 0:
                del items[i]
            case 1:
                items.append(items[i])
            case 2:
                name = graph.node[rng.integers(len(graph.node))].output[0]
                node = graph.node[rng.integers(len(graph.node))]
                node.input[rng.integers(len(node.input))] = name
            case 3:
                graph.node[rng.integers(len(graph.node))].op_type = str(rng.choice(["Add", "Gemm", "Slice", "Cast"]))
            case 4:
                first, second = onnx.NodeProto(), onnx.NodeProto()
                first.CopyFrom(graph.node[i % len(graph.node)])
                second.CopyFrom(graph.node[j % len(graph.node)])
                graph.node[i % len(graph.node)].CopyFrom(second)
                graph.node[j % len(graph.node)].CopyFrom(first)
        try:
            load_program(workshop.save(model))
        except ModelError as error:
            assert error.where and error.do


def test_text_that_is_no_text(workshop: Any, tmp_path: Path) -> None:
    data = workshop.saved("ista_tied", 2).read_bytes()
    path = tmp_path / "model.onnx"
    path.write_bytes(data.replace(b"theta", b"th\xff\xfea"))
    refused(path, r"a name in it is not text \(UTF-8\)")


def test_deep_nesting(tmp_path: Path, workshop: Any) -> None:
    """Subgraphs in subgraphs: the parser or the operator table stops them, not the stack."""
    for depth, text in ((20, "If takes 1 to 1"), (2000, "not an ONNX file, or it is truncated")):
        inner = b""
        for _ in range(depth):  # a graph (field 1: nodes) with a node (4: op_type, 5: attribute) with a graph (6)
            attribute = b"\x0a\x01a" + b"\x32" + _length(inner) + inner + b"\xa0\x01\x05"
            node = b"\x22\x02If" + b"\x2a" + _length(attribute) + attribute
            inner = b"\x0a" + _length(node) + node
        model = onnx.ModelProto(ir_version=10, opset_import=[helper.make_opsetid("", 18)])
        model.graph.output.append(helper.make_empty_tensor_value_info("x"))
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString() + b"\x3a" + _length(inner) + inner)
        refused(path, text)


def _length(data: bytes) -> bytes:
    n, result = len(data), b""
    while n >= 0x80:
        result, n = result + bytes([n & 0x7F | 0x80]), n >> 7
    return result + bytes([n])


# -- weights ---------------------------------------------------------------------------------------------------------


def test_weights() -> None:
    for value in (
        np.ones((2, 3), np.float32),
        np.float64(2.5),
        np.arange(3),
        np.zeros((0,), np.int64),
        np.array([True]),
    ):
        found = tensor_array(numpy_helper.from_array(np.asarray(value), "w"), "file")
        assert found.dtype == np.asarray(value).dtype
        np.testing.assert_array_equal(found, value)
    odd = tensor_array(TensorProto(data_type=TensorProto.BOOL, dims=[2], raw_data=b"\2\0"), "file")
    assert odd.view(np.uint8).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (TensorProto(data_type=1, dims=[2], raw_data=b"\0\0\xc0\x7f" * 2), "file: tensor 'w': 2 of 2 weights are NaN"),
        (TensorProto(data_type=1, dims=[3], raw_data=b"\0" * 8), "data are damaged"),
        (TensorProto(data_type=1, dims=[2**40], raw_data=b"\0" * 8), "data are damaged"),
        (TensorProto(data_type=1, dims=[2**40, 2**40], float_data=[1.0]), "data are damaged"),
        (TensorProto(data_type=1, dims=[-1], raw_data=b"\0" * 8), r"2 elements do not make the shape \[-1\]"),
        (TensorProto(data_type=7, dims=[2], float_data=[1.0, 2.0]), "data are damaged"),
        (TensorProto(data_type=8, dims=[1], string_data=[b"text"]), "elements are of type STRING; allowed: float32"),
        (TensorProto(data_type=10, dims=[1], raw_data=b"\0\0"), "elements are of type FLOAT16"),
        (TensorProto(data_type=0, dims=[1]), "elements are of type UNDEFINED"),
        (TensorProto(data_type=777, dims=[1]), r"elements are of type \?"),
    ],
    ids=range(10),
)
def test_damaged_weights(tensor: onnx.TensorProto, text: str) -> None:
    tensor.name = "w"
    with pytest.raises(ModelError, match=text):
        tensor_array(tensor, "file")


def test_infinite_bounds_are_legitimate() -> None:
    assert np.isinf(tensor_array(numpy_helper.from_array(np.array([np.inf]), "w"), "file")).all()


def test_attributes_by_value() -> None:
    node = helper.make_node(
        "X", [], ["y"], a=1, b=0.5, c=[1, 2], d=[0.5], e="text", f=helper.make_tensor("t", 1, [1], [2]), g=["a", "b"]
    )
    found = attributes_of(node, "file")
    assert found.pop("f").tolist() == [2.0]
    assert found == {"a": 1, "b": 0.5, "c": [1, 2], "d": [0.5], "e": "text", "g": ["a", "b"]}
    graph = helper.make_graph([], "g", [], [])
    with pytest.raises(ModelError, match="attribute 'body' holds a graph or another kind of value"):
        attributes_of(helper.make_node("Loop", [], ["y"], body=graph), "file")


# -- external data ---------------------------------------------------------------------------------------------------


def with_external(workshop: Any, tmp_path: Path, location: str, write: bool = True, **more: Any) -> Path:
    """A model whose first matrix lies in another file, beside it where `write` says so."""
    model = workshop.make("ista_tied", 2)
    tensor = next(t for t in model.graph.initializer if t.name == "W1")
    data = tensor.raw_data
    external_data_helper.set_external_data(tensor, location, **more)
    tensor.ClearField("raw_data")
    path = tmp_path / "folder" / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.SerializeToString())
    if write:
        (path.parent / location).parent.mkdir(exist_ok=True, parents=True)
        (path.parent / location).write_bytes(data)
    return path


@pytest.mark.parametrize("location", ["weights.bin", "sub/weights.bin", "sub/../weights.bin"])
def test_external_data_beside_the_model(workshop: Any, tmp_path: Path, location: str) -> None:
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    path = with_external(workshop, tmp_path, location)
    assert external_files(onnx.load(path, load_external_data=False)) == [location]
    plain = import_onnx(workshop.saved("ista_tied", 2)).program
    np.testing.assert_array_equal(import_onnx(path).program.constants["W1"], plain.constants["W1"])


@pytest.mark.parametrize("location", ["/etc/hostname", "../secret.bin", "sub/../../secret.bin", "..", "."])
def test_external_data_outside(workshop: Any, tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 4096)
    path = with_external(workshop, tmp_path, location, write=False)
    refused(path, "outside the model's folder; allowed: files beside the model" if location != "." else "is missing")


def test_external_data_behind_a_link(workshop: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"\0" * 4096)
    path = with_external(workshop, tmp_path, "weights.bin", write=False)
    (path.parent / "weights.bin").symlink_to(secret)
    refused(path, "outside the model's folder")
    (path.parent / "weights.bin").unlink()
    (path.parent / "weights.bin").symlink_to("weights.bin")
    refused(path, "is missing|cannot be read")


def test_external_data_missing_or_short(workshop: Any, tmp_path: Path) -> None:
    refused(
        with_external(workshop, tmp_path, "weights.bin", write=False), "external data file 'weights.bin' is missing"
    )
    refused(with_external(workshop, tmp_path, "a\0b", write=False), "is missing")
    refused(with_external(workshop, tmp_path, "x" * 5000, write=False), "external data file 'xxx")
    path = with_external(workshop, tmp_path, "weights.bin")
    (path.parent / "weights.bin").write_bytes(b"\0" * 8)
    refused(path, "data are damaged|cannot be read")
    wrong: list[dict[str, Any]] = [{"offset": 2**60}, {"offset": -8}, {"length": 2**60}, {"length": -1}, {"length": 8}]
    for more in wrong:
        path = with_external(workshop, tmp_path, "weights.bin", **more)
        refused(path, "data are damaged|cannot be read")


def test_external_data_without_a_place(workshop: Any, tmp_path: Path) -> None:
    path = with_external(workshop, tmp_path, "weights.bin")
    model = onnx.load(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.name == "W1")
    del tensor.external_data[:]
    path.write_bytes(model.SerializeToString())
    refused(path, "cannot be read|damaged")


def test_read_model_loads_what_lies_beside(workshop: Any, tmp_path: Path) -> None:
    model = read_model(with_external(workshop, tmp_path, "weights.bin"))
    assert all(not t.external_data for t in model.graph.initializer)
