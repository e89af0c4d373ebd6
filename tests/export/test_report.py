from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest
import torch

from unfoldc.errors import ExportError
from unfoldc.export import export_onnx

Export = Callable[..., Any]


def test_report_in_words(export: Export) -> None:
    report = export("Lista", 3, "tied").report
    lines = dict(line.split(maxsplit=1) for line in str(report).splitlines())
    assert lines["file"].endswith(".onnx (opset 20)")
    assert lines["iterations"] == "3, found by 3 items of `layers`"
    assert lines["inputs"] == "y float32[batch, 5]"
    assert lines["outputs"] == "x float32[batch, 8]; iterates of x"
    assert lines["states"] == "x float32[batch, 8]"
    assert lines["nodes"] == "begin: 6, iteration.0 to iteration.2: 10, end: 0"
    assert lines["checked"].startswith("against PyTorch on 4 inputs and every iterate: largest relative error ")


def test_report_counts_weights_and_nodes(export: Export) -> None:
    tied, untied = export("Lista", 3, "tied").report, export("Lista", 3, "untied").report
    assert 4 * 8 * (5 + 8) < tied.stored_bytes < 4 * 8 * (5 + 8) + 100
    assert tied.shared_bytes >= 2 * 4 * 8 * (5 + 8)
    assert untied.shared_bytes < 100
    assert untied.stored_bytes > 3 * 4 * 8 * (5 + 8)
    assert dict(export("Loop", 3, "end", True, "zeros").report.nodes) == {
        "begin": 5,
        "iteration.0": 9,
        "iteration.1": 9,
        "iteration.2": 9,
        "end": 2,
    }


def test_metadata(export: Export) -> None:
    exported = export("Lista", 3, "tied")
    metadata = exported.metadata
    assert metadata["format"] == 1
    assert metadata["errors"] == []
    assert metadata["states"] == [["iteration.0/Mul_0"], ["iteration.1/Mul_0"], ["x"]]
    assert metadata["parameters"]["layers.0.w2"] == {"shape": [8, 8], "tied": True}
    assert metadata["parameters"]["layers.1.theta"] == {"shape": [], "tied": False}
    assert metadata["versions"]["torch"] == torch.__version__
    assert metadata["versions"]["onnx"] == importlib.metadata.version("onnx")
    made = {name for node in exported.model.graph.node for name in node.output}
    assert {value for row in metadata["states"] for value in row} <= made


def test_metadata_of_the_module_and_the_caller(solvers: ModuleType, tmp_path: Path) -> None:
    module = solvers.Lista(2)
    module.unfoldc_metadata = {"errors": [0.5, 0.25], "trained_on": "patches", "versions": {"data": "3"}}
    report = export_onnx(
        module, torch.randn(3, 5), tmp_path / "a.onnx", metadata={"trained_on": "photographs"}, check=False
    )
    text = onnx.load(report.path).metadata_props[0].value
    assert '"errors": [0.5, 0.25]' in text
    assert '"trained_on": "photographs"' in text
    assert '"data": "3"' in text
    assert report.error is None
    assert str(report).endswith("by the ONNX checker only")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": torch.ones(2)}, "something that JSON cannot hold"),
        ({"a": float("nan")}, "something that JSON cannot hold"),
        ({"states": []}, "the reserved key 'states'"),
        ({"versions": "1"}, "an entry 'versions' that is no dictionary"),
        (3, "something that JSON cannot hold"),
    ],
)
def test_metadata_that_cannot_be_stored(solvers: ModuleType, tmp_path: Path, given: Any, message: str) -> None:
    with pytest.raises(ExportError, match=f"metadata: {message}"):
        export_onnx(solvers.Lista(1), torch.randn(3, 5), tmp_path / "a.onnx", metadata=given)
    assert not list(tmp_path.iterdir())
