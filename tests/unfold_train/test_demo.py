from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from unfoldc.unfold_train import SynthesisIsta, demo, unfold
from unfoldc.unfold_train.data.photographs import photograph
from unfoldc.unfold_train.data.superresolution import SuperResolution, psnr
from unfoldc.unfold_train.demo import (
    ITERATIONS,
    numpy_solve,
    operators,
    superresolution_problems,
    train_superresolution,
    tune_rho,
)


def test_a_short_run_of_the_whole_training(tmp_path: Path) -> None:
    found = train_superresolution(
        steps=100, hyper_steps=40, photographs=["astronaut.png"], folder=tmp_path, converged=20, progress=False
    )
    assert found.network.iterations == found.hyper.iterations == found.ista.iterations == ITERATIONS == 10
    assert found.hyper.learned_numbers == 20
    assert found.network.learned_numbers == 2 * 25 * 143 + 100 * 143 + 20
    assert found.network.solver.given["rho"] == np.float32(found.data["rho"])
    for outcome in (found.outcome, found.hyper_outcome):
        assert len(outcome.errors) == 10
        assert found.settings.loss.combine(list(outcome.errors)) < outcome.log[0]["validation_loss"]
    rows = (tmp_path / "training.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["step"] == 100
    assert (tmp_path / "hyperparameters.jsonl").is_file()

    part = photograph("camera.png")[150:250, 200:300]
    low = found.problem.degrade(part)
    quality = {
        name: psnr(found.problem.restore(low, numpy_solve(network)), part)
        for name, network in (("ista", found.ista), ("hyper", found.hyper), ("learned", found.network))
    }
    assert quality["learned"] > quality["hyper"] > quality["ista"]


def test_problems_are_textured_and_repeatable() -> None:
    problem = SuperResolution()
    training, validation = superresolution_problems(problem, ["rocket.jpg"])
    assert training.truth is not None and validation.truth is not None
    assert training.truth.shape[1] == 100 and training.inputs["y"].shape[1] == 25
    for part in (training, validation):
        assert float(part.inputs["y"].var(1, unbiased=False).min()) > 1e-4
    again = superresolution_problems(problem, ["rocket.jpg"])
    assert torch.equal(again[1].inputs["y"], validation.inputs["y"])


def test_validation_problems_come_from_another_part_of_the_photograph(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).random((200, 60), dtype=np.float32)
    noise[170:] *= 10  # the part to validate on: 15 % of the rows
    monkeypatch.setattr(demo, "photograph", lambda name: noise)
    training, validation = superresolution_problems(SuperResolution(), ["any"])
    strongest = training.inputs["y"].var(1).max()
    assert len(validation.inputs["y"]) > 40 and validation.inputs["y"].var(1).min() > strongest


def test_rho_is_the_best_candidate() -> None:
    problem = SuperResolution()
    training, _ = superresolution_problems(problem, ["rocket.jpg"])
    assert training.truth is not None
    best = tune_rho(problem, SynthesisIsta, 5, training, candidates=(1e-5, 1e-3, 1.0))
    errors = {}
    for rho in (1e-5, 1e-3, 1.0):
        network = unfold(SynthesisIsta(**operators(problem), rho=rho), iterations=5)
        errors[rho] = float((network(training.inputs["y"]) - training.truth).square().mean())
    assert best == min(errors, key=lambda rho: errors[rho]) != 1.0


def test_numpy_solve_works_in_pieces_and_stops_early() -> None:
    problem = SuperResolution()
    network = unfold(SynthesisIsta(**operators(problem), rho=1e-3), iterations=3)
    y = np.random.default_rng(0).standard_normal((7, 25), dtype=np.float32)
    expected = network.iterates(torch.from_numpy(y))
    np.testing.assert_allclose(numpy_solve(network, batch=3)(y), expected[2], atol=1e-6)
    np.testing.assert_allclose(numpy_solve(network, iterations=2)(y), expected[1], atol=1e-6)
