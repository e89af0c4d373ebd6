from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from unfoldc.errors import InputError, TrainingError
from unfoldc.unfold_train import Loss, Outcome, Problems, Settings, Status, SynthesisIsta, Trainer, Unfolded, unfold
from unfoldc.unfold_train import train as train_module
from unfoldc.unfold_train.progress import TrainingProgress

QUICK = Settings(steps=40, batch=16, rate=0.05, validate_every=10)


def network(sparse: Any, learn: tuple[str, ...] = ("mu", "theta"), tied: Any = False, iterations: int = 3) -> Unfolded:
    solver = SynthesisIsta(H=sparse.H, Psi=sparse.Psi, rows=sparse.rows, rho=sparse.rho)
    return unfold(solver, iterations=iterations, learn=learn, tied=tied)


class Watched(Trainer):
    """A trainer that calls back before and after each step and after each phase."""

    before_step: Callable[[], None] = staticmethod(lambda: None)
    after_step: Callable[[], None] = staticmethod(lambda: None)
    after_phase: Callable[[], None] = staticmethod(lambda: None)

    def _step(self, *arguments: Any) -> float:
        self.before_step()
        loss = super()._step(*arguments)
        self.after_step()
        return loss

    def _phase(self, *arguments: Any) -> Status:
        status = super()._phase(*arguments)
        self.after_phase()
        return status


def trainer(net: Unfolded, sparse: Any, settings: Settings = QUICK, **options: Any) -> Watched:
    training = Problems({"y": sparse.y[:30]}, sparse.truth[:30])
    validation = Problems({"y": sparse.y[30:]}, sparse.truth[30:])
    return Watched(net, training, validation, settings, **{"progress": False, **options})


def values(net: Unfolded) -> list[torch.Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def test_training_lowers_the_validation_error_and_reports_it(sparse: Any, tmp_path: Path) -> None:
    net = network(sparse)
    before = Loss().errors(net, Problems({"y": sparse.y[30:]}, sparse.truth[30:]))
    outcome = trainer(net, sparse, log=tmp_path / "logs" / "log.jsonl").run()
    assert outcome.status is Status.FINISHED and outcome.steps == 40
    assert outcome.errors[-1] < 0.95 * before[-1]
    assert net.frozen().unfoldc_metadata == {
        "solver": "SynthesisIsta",
        "learned": {"mu": {"shape": [], "tied": False}, "theta": {"shape": [], "tied": False}},
        "errors": list(outcome.errors),
    }
    rows = [json.loads(line) for line in (tmp_path / "logs" / "log.jsonl").read_text().splitlines()]
    assert rows == list(outcome.log)
    assert [row["step"] for row in rows] == [0, 10, 20, 30, 40]
    assert rows[0]["validation_errors"] == pytest.approx(before)
    assert min(row["validation_loss"] for row in rows) == pytest.approx(outcome.errors[-1])


@pytest.mark.parametrize("schedule", ["end to end", "sequential", "sequential then end to end"])
def test_equal_seeds_give_equal_numbers(schedule: Any, sparse: Any) -> None:
    results = []
    for seed in (1, 1, 2):
        net = network(sparse, ("A", "B", "mu", "theta"), ["A", "B"])
        trainer(net, sparse, replace(QUICK, rate=0.01, schedule=schedule, seed=seed)).run()
        results.append(values(net))
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(results[0], results[2], strict=True))


def test_sequential_training_leaves_earlier_iterations_alone(sparse: Any) -> None:
    net = network(sparse)
    start = values(net)
    run = trainer(net, sparse, replace(QUICK, schedule="sequential", steps=30))
    seen: list[list[torch.Tensor]] = []
    run.after_phase = lambda: seen.append(values(net))
    run.run()
    first = [n.startswith("iteration.0") for n, _ in net.named_parameters()]
    for k, after in enumerate(seen):
        changed = [not torch.equal(a, b) for a, b in zip(start if k == 0 else seen[k - 1], after, strict=True)]
        assert any(changed)
        assert all(c <= (f == (k == 0)) for c, f in zip(changed, first, strict=True))
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("loss", [Loss("log"), Loss("last", supervised=False), Loss("log", supervised=False)])
def test_every_loss_trains(loss: Loss, sparse: Any) -> None:
    net = network(sparse)
    outcome = trainer(net, sparse, replace(QUICK, loss=loss)).run()
    assert loss.combine(list(outcome.errors)) < outcome.log[0]["validation_loss"]


def test_the_best_values_are_kept_when_training_makes_things_worse(sparse: Any) -> None:
    net = network(sparse)
    start = values(net)
    outcome = trainer(net, sparse, replace(QUICK, rate=3.0, patience=2)).run()
    assert outcome.status is Status.CONVERGED and outcome.steps == 20
    assert all(torch.equal(a, b) for a, b in zip(start, values(net), strict=True))


class Clock:
    """Seconds that pass only when a training step is done."""

    def __init__(self, per_step: float) -> None:
        self.per_step, self.now = per_step, 0.0

    def monotonic(self) -> float:
        return self.now

    def tick(self) -> None:
        self.now += self.per_step


def timed(sparse: Any, monkeypatch: pytest.MonkeyPatch, per_step: float, settings: Settings) -> Outcome:
    clock = Clock(per_step)
    monkeypatch.setattr(train_module, "time", clock)
    run = trainer(network(sparse), sparse, settings)
    run.after_step = clock.tick
    return run.run()


def test_a_budget_bounds_the_time_and_lets_the_rates_fall_sooner(sparse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = timed(sparse, monkeypatch, 1.0, replace(QUICK, steps=100, budget=30.0))
    assert outcome.status is Status.OUT_OF_TIME
    assert outcome.steps == 30
    assert outcome.log[-1]["rate"] < 0.1 * QUICK.rate
    sequential = replace(QUICK, steps=90, budget=30.0, schedule="sequential")
    assert timed(sparse, monkeypatch, 1.0, sequential).steps == pytest.approx(30, abs=3)


def test_enough_time_changes_nothing(sparse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with_budget = timed(sparse, monkeypatch, 1.0, replace(QUICK, budget=41.0))
    without = timed(sparse, monkeypatch, 0.5, QUICK)
    assert with_budget.status is Status.FINISHED
    assert with_budget.errors == without.errors


def test_ctrl_c_keeps_the_best_so_far_and_returns(sparse: Any) -> None:
    net = network(sparse)
    run = trainer(net, sparse)

    def interrupt() -> None:
        if run.done == 25:
            raise KeyboardInterrupt

    run.before_step = interrupt
    outcome = run.run()
    assert outcome.status is Status.INTERRUPTED and outcome.steps == 25
    assert "best values so far" in outcome.status.value
    best = min(row["validation_loss"] for row in outcome.log)
    assert outcome.errors[-1] == pytest.approx(best) and best < outcome.log[0]["validation_loss"]


def test_a_diverging_run_says_what_to_do_and_keeps_the_best(sparse: Any) -> None:
    net = network(sparse, ("A", "B", "mu", "theta"), ["A", "B"])
    start = values(net)
    with pytest.raises(TrainingError, match=r"training, end to end, step [1-9]: the loss is (nan|inf).*Lower the rate"):
        rates = {"A": 1e200, "B": 1e200}
        trainer(net, sparse, replace(QUICK, rates=rates)).run()
    assert all(torch.equal(a, b) for a, b in zip(start, values(net), strict=True))


def test_rates_can_be_set_by_name(sparse: Any) -> None:
    net = network(sparse)
    start = net.value("theta", 1).clone()
    trainer(net, sparse, replace(QUICK, rates={"theta": 1e-12})).run()
    torch.testing.assert_close(net.value("theta", 1), start, rtol=1e-9, atol=0)
    assert abs(float(net.value("mu", 1) / network(sparse).value("mu", 1)) - 1) > 0.01
    with pytest.raises(InputError, match=re.escape("Settings(rates=...): W9; allowed: mu, theta")):
        trainer(net, sparse, replace(QUICK, rates={"W9": 1.0}))


def test_rates_of_matrices_are_relative_to_their_size(sparse: Any) -> None:
    net = network(sparse, ("D",), True)
    before = net.value("D").clone()
    run = trainer(net, sparse, replace(QUICK, steps=1, rate=0.01))
    after: list[torch.Tensor] = []
    run.after_step = lambda: after.append(net.value("D").clone())
    run.run()
    moved = (after[0] - before).abs().max() / before.square().mean().sqrt()
    assert 0.009 < float(moved) < 0.011


@pytest.mark.parametrize("field", ["steps", "batch", "rate", "patience", "budget", "threads"])
def test_settings_must_be_positive(field: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"Settings({field}=...): 0; allowed: above zero")):
        replace(QUICK, **{field: 0})  # type: ignore[arg-type]


def test_settings_are_plain_data() -> None:
    plain = Settings(rates={"mu": 0.1}, loss=Loss("log")).to_json()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["loss"] == {"weighting": "log", "supervised": True}


def test_data_that_does_not_fit_is_refused(sparse: Any) -> None:
    net = network(sparse)
    bad = sparse.y.clone()
    bad[3, 2] = math.nan
    good = Problems({"y": sparse.y}, sparse.truth)
    with pytest.raises(TrainingError, match="training y: 1 of 240 numbers are NaN or infinite"):
        Trainer(net, Problems({"y": bad}, sparse.truth), good)
    with pytest.raises(TrainingError, match="validation truth: 4 of 160 numbers are NaN"):
        Trainer(
            net,
            good,
            Problems({"y": sparse.y}, sparse.truth * torch.where(torch.arange(40) == 1, math.nan, 1)[:, None]),
        )
    with pytest.raises(TrainingError, match="training problems: y: 40, truth: 39; allowed: equally many"):
        Trainer(net, Problems({"y": sparse.y}, sparse.truth[:39]))
    with pytest.raises(TrainingError, match="training problems: y: 0"):
        Trainer(net, Problems({"y": sparse.y[:0]}, sparse.truth[:0]))
    with pytest.raises(InputError, match="called with inputs: 0 by position, x; allowed: y"):
        Trainer(net, Problems({"x": sparse.y}, sparse.truth))
    with pytest.raises(TrainingError, match="SynthesisIsta: nothing is learned"):
        Trainer(network(sparse, ()), good)


def test_the_number_of_threads_is_restored(sparse: Any) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        trainer(network(sparse), sparse, replace(QUICK, steps=1)).run()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_line_for_each_quarter_without_a_terminal(sparse: Any, capsys: pytest.CaptureFixture[str]) -> None:
    trainer(network(sparse), sparse, replace(QUICK, validate_every=5), progress=True, title="small run").run()
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 5 and lines[-1].startswith("small run: 40 of 40 steps, validation loss ")
    assert lines[0] == "small run ..."
    trainer(network(sparse), sparse).run()
    assert capsys.readouterr().err == ""


def test_a_line_in_ten_seconds_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("unfoldc.unfold_train.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    with TrainingProgress("long", 1000, unit="patches") as bar:
        for step in range(1, 101):
            now[0] += 0.25
            bar.update(step, "note", None if step < 100 else 100)
    lines = ["long ...", "long: 40 of 1000 patches, note", "long: 80 of 1000 patches, note"]
    assert capsys.readouterr().err.splitlines() == [*lines, "long: 100 of 100 patches, note"]
