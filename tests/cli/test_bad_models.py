"""Models that are damaged, hostile or too much to ask: one paragraph each, status 1, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from unfoldc import cli
from unfoldc.runtime import backends

Capture = pytest.CaptureFixture[str]
Change = Callable[[onnx.ModelProto], object]

HOSTILE = 'x"; system("rm -rf ~"); /*\n\x1b[31m'


def _nan(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = np.full(45, np.nan, np.float32).tobytes()


def _unknown(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Frobnicate"


def _hostile(model: onnx.ModelProto) -> None:
    _unknown(model)
    model.graph.node[0].name = HOSTILE


def _open_axis(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "width"


def _outside(model: onnx.ModelProto) -> None:
    external_data_helper.set_external_data(model.graph.initializer[0], "../../../etc/passwd")
    model.graph.initializer[0].ClearField("raw_data")


def _missing_data(model: onnx.ModelProto) -> None:
    external_data_helper.set_external_data(model.graph.initializer[0], "weights.bin")
    model.graph.initializer[0].ClearField("raw_data")


def _wrong_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 9
    model.graph.initializer[0].dims[1] = 5


BAD: dict[str, tuple[Change, str]] = {
    "NaN": (_nan, "45 of 45 weights are NaN"),
    "unknown operator": (_unknown, "Frobnicate"),
    "dynamic axis": (_open_axis, "'width'"),
    "data outside": (_outside, "outside the model's folder"),
    "data missing": (_missing_data, "weights.bin"),
    "wrong shape": (_wrong_shape, "MatMul"),
    "hostile names": (_hostile, "Frobnicate"),
}


def refuse(capsys: Capture, cache: Path, folder: Path, *arguments: object) -> str:
    """The paragraph; nothing may be written to the folder of the output or to the cache."""
    before = sorted(p.name for p in folder.iterdir())
    status = cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert (status, out) == (1, "") and "Traceback" not in err and err.startswith("unfoldc: ")
    assert all(c.isprintable() or c == "\n" for c in err) and "allowed:" in err
    assert sorted(p.name for p in folder.iterdir()) == before
    assert not cache.is_dir() or list(cache.iterdir()) == []
    return " ".join(err.split())


@pytest.mark.parametrize("case", BAD)
def test_a_bad_model_is_refused(capsys: Capture, tiny: Any, tmp_path: Path, cache: Path, case: str) -> None:
    change, message = BAD[case]
    model = tiny.model()
    change(model)
    path = tmp_path / "bad.onnx"
    path.write_bytes(model.SerializeToString())
    for command in (["compile", path, "-o", tmp_path / "out"], ["inspect", path]):
        assert message in refuse(capsys, cache, tmp_path, *command)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(capsys: Capture, model: Path, tmp_path: Path, cache: Path, keep: float) -> None:
    data = model.read_bytes()
    model.write_bytes(data[: int(len(data) * keep)])
    assert str(model) in refuse(capsys, cache, tmp_path, "compile", model, "-o", tmp_path / "out")


def test_hostile_names_stay_names(capsys: Capture, tiny: Any, tmp_path: Path, cache: Path) -> None:
    """Names of values, nodes and the graph become neither code nor control characters on a terminal."""
    model = tiny.model()
    model.graph.name = HOSTILE
    model.graph.input[0].name = model.graph.output[0].name = ""
    for node in model.graph.node:
        node.name = node.name.partition("/")[0] + "/" + HOSTILE + node.name
        node.input[:] = [HOSTILE + name for name in node.input]
        node.output[:] = [HOSTILE + name for name in node.output]
    for tensor in model.graph.initializer:
        tensor.name = HOSTILE + tensor.name
    model.graph.input[0].name, model.graph.output[0].name = HOSTILE + "y", HOSTILE + "x"
    path, out = tmp_path / "hostile.onnx", tmp_path / "out"
    path.write_bytes(model.SerializeToString())
    np.savez(tmp_path / "y.npz", **{HOSTILE + "y": tiny.problems()})
    for command in (
        ["inspect", path],
        ["compile", path, "-o", out],
        ["run", out, tmp_path / "y.npz", "-o", tmp_path / "x.npz"],
        ["profile", out, tmp_path / "y.npz", "--repeats", "2"],
    ):
        assert cli.main([str(a) for a in command]) == 0, capsys.readouterr().err
        text = capsys.readouterr().out
        assert all(c.isprintable() or c == "\n" for c in text)
        assert command[0] != "profile" or "[31mx, relative to" in text
    with np.load(tmp_path / "x.npz") as found:
        np.testing.assert_allclose(found[HOSTILE + "x"], tiny.solve(tiny.problems()), atol=1e-6)
    assert not any("system(" in file.read_text() for file in out.glob("*.[ch]"))


def test_a_model_too_big_for_the_device_is_refused(capsys: Capture, tmp_path: Path, cache: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((400, 400)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["y", "w"], ["x"])],
        "big",
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 400])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 400])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "big.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    command = ["compile", path, "--target", "stm32f411", "-o", tmp_path / "out"]
    assert "bytes of flash too much; allowed: 524288 bytes" in refuse(capsys, cache, tmp_path, *command)


def test_a_missing_tool_is_named(
    capsys: Capture, model: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "_installed", lambda name: name != "ziglang")
    command = ["compile", model, "--backend", "c", "-o", tmp_path / "out"]
    message = refuse(capsys, cache, tmp_path, *command)
    assert "backend c: ziglang not installed" in message and "pip install ziglang" in message
