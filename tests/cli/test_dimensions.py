"""Lengths that are bound by name, in Python and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

import unfoldc
from unfoldc import cli
from unfoldc.errors import InputError


@pytest.fixture
def open_model(tiny: Any, tmp_path: Path) -> Path:
    """y (batch, Width), Width = 5; an old exporter has listed a weight among the inputs."""
    model = tiny.model()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "Width"
    model.graph.input.append(onnx.helper.make_tensor_value_info("w2", onnx.TensorProto.FLOAT, ["weight", 9]))
    onnx.save(model, tmp_path / "open.onnx")
    return tmp_path / "open.onnx"


@pytest.mark.parametrize("backend", ["reference", "onnxruntime"])
def test_a_dimension_that_no_input_has_is_refused(open_model: Path, backend: str) -> None:
    solver = unfoldc.compile(open_model, backend=backend, dimensions={"Width": 5})
    assert solver.inputs[0].shape == (5,)
    for name, rest in (
        ("q", "allowed: batch, Width. Choose one of these names."),
        ("width", "allowed: batch, Width. Did you mean 'Width'?"),
        ("weight", "allowed: batch, Width. Choose one of these names."),
    ):
        with pytest.raises(InputError) as refused:
            unfoldc.compile(open_model, backend=backend, dimensions={"Width": 5, name: 3})
        assert str(refused.value) == (
            f"{open_model}: dimension '{name}': no input of the model has an open length of this name; {rest}"
        )


def test_a_model_without_open_lengths_says_so(tiny: Any, tmp_path: Path) -> None:
    onnx.save(tiny.model(4), tmp_path / "closed.onnx")
    with pytest.raises(InputError, match="allowed: none, because its inputs name no open length. Leave the option out"):
        unfoldc.compile(tmp_path / "closed.onnx", backend="reference", dimensions={"q": 3})


@pytest.mark.parametrize("command", ["inspect", "compile", "profile"])
def test_each_command_refuses_it(open_model: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert cli.main([command, str(open_model), "--dimension", "Width=5", "--dimension", "Bach=3"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.endswith("allowed: batch, Width. Did you mean 'batch'?\n") and err.count("\n") == 1
