from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from unfoldc.export import write


def model() -> onnx.ModelProto:
    text = '<ir_version: 10, opset_import: ["" : 20]> solver (float[n,600] y) => (float[n,600] x) { x = Add(y, w) }'
    parsed = onnx.parser.parse_model(text)
    parsed.graph.initializer.append(numpy_helper.from_array(np.arange(600, dtype=np.float32), "w"))
    return parsed


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a.onnx"
    with write.written_aside(model(), target) as aside:
        assert not target.exists()
        assert onnx.load(aside).graph.node[0].op_type == "Add"
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


def test_an_error_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a.onnx"
    target.write_text("an earlier file")
    with pytest.raises(KeyError), write.written_aside(model(), target):
        raise KeyError
    assert target.read_text() == "an earlier file"
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


def test_large_models_keep_their_weights_in_a_second_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "ONE_FILE_BYTES", 1000)
    target = tmp_path / "a.onnx"
    with write.written_aside(model(), target) as aside:
        onnx.checker.check_model(str(aside))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "a.onnx.data"]
    assert target.stat().st_size < 1000
    weights = numpy_helper.to_array(onnx.load(target).graph.initializer[0])
    assert np.array_equal(weights, np.arange(600, dtype=np.float32))
