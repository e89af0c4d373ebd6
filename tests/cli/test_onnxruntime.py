"""The command line on models that the compilers refuse: ONNX Runtime runs them, and every command says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from opaque_models import MODELS, answers, problems

from unfoldc import cli, pipeline
from unfoldc.runtime import backends

Capture = pytest.CaptureFixture[str]
K = 4


@pytest.fixture
def opaque(tmp_path: Path) -> Path:
    """A model with an operator that the compiler does not know."""
    path = tmp_path / "gelu.onnx"
    path.write_bytes(MODELS["gelu"](K).SerializeToString())
    np.save(tmp_path / "y.npy", problems()["y"])
    return path


def run(capsys: Capture, *arguments: object) -> tuple[str, str]:
    """What a command prints on its two streams."""
    status = cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert status == 0, err
    return out, err


def test_a_refused_model_is_compiled_run_and_profiled(capsys: Capture, opaque: Path, tmp_path: Path) -> None:
    out, err = run(capsys, "compile", opaque, "-o", tmp_path / "out")
    why = f"onnxruntime, because c refuses the model ({opaque}: iteration.0/Gelu_4 (Gelu): the operator"
    assert err.startswith(f"note: {why}") and err.count("\n") == 1
    assert f"4 iterations for host, backend onnxruntime (auto: {why}" in out
    assert "solver_begin.onnx" in out and "solver_end.onnx" in out
    out, err = run(capsys, "run", tmp_path / "out", tmp_path / "y.npy", "-o", tmp_path / "x.npy")
    assert "4 of 4 iterations" in out and err == ""
    right = answers(MODELS["gelu"](K), problems())[0]
    assert np.linalg.norm(np.load(tmp_path / "x.npy") - right) <= 1e-5 * np.linalg.norm(right)
    out, err = run(capsys, "profile", opaque, tmp_path / "y.npy", "--repeats", "5", "--json")
    profile = json.loads(out)
    assert profile["backend"] == "onnxruntime" and err.startswith("note: ")
    assert all(row["seconds_p50"] > 0 for row in profile["iterations"])


def test_json_holds_the_note(capsys: Capture, opaque: Path, tmp_path: Path) -> None:
    out, _ = run(capsys, "compile", opaque, "-o", tmp_path / "out", "--json")
    facts = json.loads(out)
    assert facts["notes"][0].startswith("onnxruntime, because c refuses") and facts["state_bytes"] > 0
    out, err = run(capsys, "compile", opaque, "-o", tmp_path / "out2", "--json", "--backend", "onnxruntime")
    assert json.loads(out)["notes"] == [] and err == ""


def test_inspect_shows_the_parts(capsys: Capture, opaque: Path, model: Path) -> None:
    out, err = run(capsys, "inspect", opaque)
    assert "com.microsoft.Gelu is not known to the compiler); onnxruntime runs it like this" in err
    assert "gelu.onnx: 4 iterations" in out and "ONNX model" in out and "flops" not in out
    out, err = run(capsys, "inspect", model)
    assert "flops" in out and err == ""
    out, err = run(capsys, "inspect", model, "--backend", "onnxruntime", "--json")
    assert json.loads(out)["iterations"] == 3 and err == ""


def test_inspect_refuses_without_onnxruntime(capsys: Capture, opaque: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = backends._installed
    monkeypatch.setattr(backends, "_installed", lambda name: name != "onnxruntime" and installed(name))
    assert cli.main(["inspect", str(opaque)]) == 1
    assert "Gelu is not known to the compiler" in capsys.readouterr().err
    assert cli.main(["inspect", str(opaque), "--backend", "onnxruntime"]) == 1
    assert "onnxruntime not installed" in capsys.readouterr().err


def test_the_cache_knows_a_model_that_was_refused(cache: Path, opaque: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pipeline.compile(opaque)
    asked_for = pipeline.compile(opaque, backend="onnxruntime")
    other = pipeline.compile(opaque, backend="onnxruntime", providers=["CPUExecutionProvider"])
    assert len(list(cache.iterdir())) == 3
    assert (len(first.notes), asked_for.notes, other.notes) == (1, (), ())

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("split again")

    monkeypatch.setattr("unfoldc.kernels.split_onnx.artifact.compile_split", fail)
    again = pipeline.compile(opaque)
    assert (again.notes, again.backend_reason) == (first.notes, first.backend_reason)
    inputs = problems()
    assert np.array_equal(again(**inputs), first(**inputs))


def test_options_of_the_runtime(capsys: Capture, opaque: Path, tmp_path: Path) -> None:
    options = ["--backend", "onnxruntime", "--provider", "CPUExecutionProvider", "--threads", "2"]
    run(capsys, "compile", opaque, "-o", tmp_path / "out", *options)
    index = json.loads((tmp_path / "out" / "artifact.json").read_text())
    assert index["options"]["providers"] == ["CPUExecutionProvider"] and index["options"]["threads"] == 2
    options = ["--provider", "CPUExecutionProvider", "--threads", "1"]
    run(capsys, "run", tmp_path / "out", tmp_path / "y.npy", *options)
    for arguments, message in (
        (["run", tmp_path / "out", tmp_path / "y.npy", "--provider", "Nobody"], "'Nobody'; allowed: "),
        (["run", tmp_path / "out", tmp_path / "y.npy", "--target", "host"], "--target: given for"),
        (["compile", opaque, "--backend", "reference", "--threads", "2"], "threads: 2 for backend reference"),
    ):
        assert cli.main([str(a) for a in arguments]) == 1
        assert message in capsys.readouterr().err
