"""`unfoldc train --problem` and `unfoldc approximate`, small and for a few steps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from unfoldc import cli
from unfoldc.unfold_train import load_checkpoint, tasks
from unfoldc.unfold_train.tasks import TASKS

Capture = pytest.CaptureFixture[str]
SMALL: dict[str, dict[str, Any]] = {
    "detection": {"antennas": 16, "users": 3, "snr": 14.0},
    "robust-pca": {"size": 12, "rank": 2, "condition": 10.0, "zeta_init": 0.08},
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {n: dataclasses.replace(t, settings=SMALL[n], iterations=2) for n, t in TASKS.items()}
    monkeypatch.setattr(tasks, "TASKS", tiny)
    sizes = tasks.problem_sets

    def few(task: Any, settings: Any, seed: int) -> Any:
        whole = sizes(task, settings, seed)
        return tuple(
            type(p)({n: t[:40] for n, t in p.inputs.items()}, None if p.truth is None else p.truth[:40]) for p in whole
        )

    monkeypatch.setattr(tasks, "problem_sets", few)


def call(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    status = cli.main([str(a) for a in arguments])
    return status, *capsys.readouterr()


@pytest.fixture
def detector(capsys: Capture, tmp_path: Path) -> Path:
    file = tmp_path / "detector"
    status, _, err = call(capsys, "train", "--problem", "detection", "--steps", 4, "--json", "-o", file)
    assert (status, err) == (0, "")
    return file


@pytest.mark.slow
def test_the_table_for_a_detector(capsys: Capture, detector: Path, tmp_path: Path) -> None:
    how = ["--solve", "neumann:2,warm,learn=scalar", "--steps", 8, "--json", "-o", tmp_path / "out"]
    status, out, err = call(capsys, "approximate", detector, "--target", "stm32f407", *how)
    assert status == 0, err
    found = json.loads(out)
    assert [f["name"] for f in found["figures"]][0] == "exact" and len(found["figures"][3]["errors"]) == 2
    assert list(found["devices"]) == ["exact", "exact and trained", "approximated", "approximated and trained"]
    for device in found["devices"].values():
        assert device["estimated_seconds"] > 0
        assert device["instructions"] > 0 and device["flash_bytes"] > 0 and len(device["iterations"]) == 2
    written = load_checkpoint(tmp_path / "out")
    assert list(written.network.approximated) == ["solve"] and written.data["problem"] == "detection"
    assert torch.isfinite(written.network(*written.network.example_inputs)).all()


def test_the_table_as_text_and_sites(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []

    def device(network: Any, *_: object) -> dict[str, Any]:
        compiled.append(network)
        sizes = {"flash_bytes": 8, "ram_bytes": 4, "instructions": None, "estimated_seconds": None}
        return {**sizes, "seconds": 1e-6 * len(compiled)}

    monkeypatch.setattr("unfoldc.commands.approximate._device", device)
    file = tmp_path / "pca"
    status, _, err = call(capsys, "train", "--problem", "robust-pca", "--steps", 4, "--json", "-o", file)
    assert status == 0, err
    sites = ["--inverse", "newton-schulz:1,warm,first_steps=4", "--site", "L=skip", "--iterations", "1", "--steps", 4]
    status, out, err = call(capsys, "approximate", file, *sites)
    assert status == 0, err
    assert "multiply-adds: exact" in out
    lines = [line.split("  ") for line in out.splitlines()]
    start = [line[0] for line in lines].index("on host")
    table = [[cell.strip() for cell in line if cell] for line in lines[start : start + 5]]
    assert table == [
        ["on host", "constants", "state", "time"],
        ["exact", "8 bytes", "4 bytes", "1 us"],
        ["exact and trained", "8 bytes", "4 bytes", "2 us"],
        ["approximated", "8 bytes", "4 bytes", "3 us"],
        ["approximated and trained", "8 bytes", "4 bytes", "4 us"],
    ]
    assert [bool(n.approximated) for n in compiled] == [False, False, True, True]
    untrained, trained = (torch.cat([p.ravel() for p in n.parameters()]) for n in compiled[2:])
    assert not torch.equal(untrained, trained)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            [],
            "nothing to approximate; allowed: an operation (--solve, --inverse, ...) or --site; its call sites: solve",
        ),
        (["--solve", "newton-schulz"], "unknown name 'newton-schulz'"),
        (["--inverse", "newton-schulz"], "its call sites: solve"),
        (["--site", "solve"], "NAME=HOW"),
        (["--solve", "neumann:0"], "1 to 64"),
        (["--solve", "neumann", "--iterations", "7"], "0 to 1"),
        (["--solve", "neumann", "--target", "toaster"], "toaster"),
    ],
)
def test_what_does_not_fit_is_said_in_a_paragraph(capsys: Capture, detector: Path, more: list[str], says: str) -> None:
    status, out, err = call(capsys, "approximate", detector, *more)
    assert status == 1 and out == "" and says in err and "Traceback" not in err


def test_a_checkpoint_of_another_problem_is_refused(capsys: Capture, detector: Path, tmp_path: Path) -> None:
    from unfoldc.unfold_train import save_checkpoint

    network = load_checkpoint(detector).network
    save_checkpoint(tmp_path / "own", network)
    status, _, err = call(capsys, "approximate", tmp_path / "own", "--solve", "neumann")
    assert status == 1 and "does not say what it was trained on" in err
    save_checkpoint(tmp_path / "odd", network, data={"problem": "detection", "users": "many"})
    status, _, err = call(capsys, "approximate", tmp_path / "odd", "--solve", "neumann")
    assert status == 1 and "users is 'many'" in err
