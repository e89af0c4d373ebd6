"""`unfoldc train` and `unfoldc export`, on one photograph and for a few steps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc import cli, pipeline
from unfoldc.unfold_train import Ista, load_checkpoint, save_checkpoint, unfold
from unfoldc.unfold_train.data import photographs

Capture = pytest.CaptureFixture[str]
K = 2


@pytest.fixture(autouse=True)
def one_photograph(monkeypatch: pytest.MonkeyPatch) -> None:
    original = photographs.photograph
    small = {"moon.png": original("moon.png")[100:220, 100:220]}
    monkeypatch.setattr(photographs, "TRAINING", tuple(small))
    monkeypatch.setattr("unfoldc.unfold_train.demo.photograph", lambda name: small[name])


def call(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    status = cli.main([str(a) for a in arguments])
    return status, *capsys.readouterr()


def train(capsys: Capture, file: Path, *more: object) -> dict[str, Any]:
    basis = ["train", "--json", "--iterations", K, "--steps", 3, "--rho", 0.001, "-o", file]
    status, out, err = call(capsys, *basis, *more)
    assert (status, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_network_from_training_to_an_answer(capsys: Capture, tmp_path: Path) -> None:
    trained = train(capsys, tmp_path / "net", "--learn", "mu,theta", "--log", tmp_path / "log")
    assert (trained["steps"], trained["learned_numbers"], len(trained["errors"])) == (3, 2 * K, K)
    assert all(json.loads(line)["validation_loss"] > 0 for line in (tmp_path / "log").read_text().splitlines())
    status, out, err = call(capsys, "export", tmp_path / "net", "-o", tmp_path / "net.onnx", "--iterates", "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert report["iterations"] == K and report["error"] < report["error_limit"]
    _, out, _ = call(capsys, "inspect", tmp_path / "net.onnx", "--json")
    seen = json.loads(out)
    assert seen["file_bytes"] == report["stored_bytes"]
    assert seen["weight_bytes"] == report["stored_bytes"] + report["shared_bytes"]
    solver = pipeline.compile(tmp_path / "net.onnx", backend="reference")
    assert solver.artifact.notes["metadata"]["errors"] == pytest.approx(trained["errors"])
    y = np.random.default_rng(0).standard_normal((3, 25)).astype(np.float32)
    import torch

    expected = load_checkpoint(tmp_path / "net").network(torch.from_numpy(y)).detach().numpy()
    np.testing.assert_allclose(solver(y), expected, atol=1e-5)


def test_export_and_inspect_say_the_same_of_the_weights(capsys: Capture, tmp_path: Path) -> None:
    train(capsys, tmp_path / "net", "--learn", "A,mu,theta")
    _, exported, _ = call(capsys, "export", tmp_path / "net", "-o", tmp_path / "net.onnx")
    _, seen, _ = call(capsys, "inspect", tmp_path / "net.onnx")
    copies = r"(\d+) bytes in the file, (?:\d+ as they are compiled \()?(\d+) with a copy for each iteration"
    one, other = (re.search(copies, text) for text in (exported, seen))
    assert one and other and one.groups() == other.groups()
    status, seen, _ = call(capsys, "inspect", tmp_path / "net.onnx", "--backend", "onnxruntime")
    assert status == 0 and f"  weights  {one[1]} bytes in the file, " in seen


def test_a_training_that_runs_out_of_time_names_the_option(capsys: Capture, tmp_path: Path) -> None:
    limits = ["--steps", 100000, "--seconds", 0.05, "--rho", 0.001, "--iterations", K]
    status, out, _ = call(capsys, "train", *limits, "--learn", "mu,theta", "-o", tmp_path / "net")
    assert status == 0 and re.search(r"\n\d+ of 100000 steps in .* s: --seconds 0.05 were used up; more may go", out)


def test_training_goes_on_from_a_checkpoint(capsys: Capture, tmp_path: Path) -> None:
    train(capsys, tmp_path / "a", "--learn", "mu,theta", "--tied", "mu")
    status, out, err = call(capsys, "train", "--continue", tmp_path / "a", "--steps", 3, "-o", tmp_path / "b")
    assert status == 0
    assert out.startswith(f"{K} iterations, {1 + K} learned numbers: mu (tied), theta\n3 of 3 steps in ")
    assert "validation squared error" in out and " dB" in out and out.endswith(f"written to {tmp_path / 'b'}\n")
    first, second = (load_checkpoint(tmp_path / name) for name in "ab")
    assert second.data == first.data and second.errors[-1] <= first.errors[-1]
    message = call(capsys, "train", "--continue", tmp_path / "a", "--learn", "A", "-o", tmp_path / "c")[2]
    assert "--learn: given together with --continue; allowed: options that do not change" in " ".join(message.split())
    assert not (tmp_path / "c").exists()


def test_the_full_form_and_what_is_tied(capsys: Capture, tmp_path: Path) -> None:
    train(capsys, tmp_path / "net", "--learn", "W1,W2,theta", "--unsupervised", "--schedule", "sequential")
    network = load_checkpoint(tmp_path / "net").network
    assert type(network.solver).__name__ == "SynthesisLista"
    assert {name: how.tied for name, how in network.learned.items()} == {"W1": True, "W2": True, "theta": False}


def test_ctrl_c_keeps_the_best_values_so_far(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unfoldc.unfold_train.train import Trainer

    def interrupt(*_: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_step", interrupt)
    basis = ["train", "--iterations", K, "--learn", "mu", "--rho", 0.001, "-o", tmp_path / "net"]
    status, out, _ = call(capsys, *basis)
    assert status == 130 and "interrupted; the best values so far were kept" in out
    assert load_checkpoint(tmp_path / "net").network.iterations == K


def test_what_cannot_be_trained_or_exported_is_refused(capsys: Capture, tmp_path: Path) -> None:
    basis = ["train", "--rho", "0.001", "-o", tmp_path / "net"]
    status, out, err = call(capsys, *basis, "--learn", "mu,nonsense")
    assert (status, out) == (1, "") and "nonsense" in err and "Traceback" not in err
    (tmp_path / "cut").write_bytes(b"cut")
    for command in (
        ["export", tmp_path / "cut", "-o", tmp_path / "x.onnx"],
        ["train", "--continue", tmp_path / "cut", "-o", "x"],
    ):
        status, out, err = call(capsys, *command)
        assert (status, out) == (1, "") and err.startswith("unfoldc: checkpoint ") and "Traceback" not in err
    save_checkpoint(tmp_path / "own", unfold(Ista(A=np.eye(3, dtype=np.float32), rho=0.1), iterations=2, learn=["mu"]))
    status, _, err = call(capsys, "train", "--continue", tmp_path / "own", "-o", tmp_path / "net")
    assert status == 1 and "it does not say what it was trained on (" in " ".join(err.split())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut", "own"]


@pytest.mark.parametrize("option", [["--seconds", "0"], ["--rho", "-1"], ["--rho", "nan"], ["--iterations", "0"]])
def test_wrong_numbers_are_wrong_usage(capsys: Capture, option: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["train", "-o", "x", *option])
    assert exit_.value.code == 2 and "is not above zero" in capsys.readouterr().err
