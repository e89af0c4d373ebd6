"""`compile(..., tune=seconds)`: what is tried, kept, remembered and said. Instructions are counted, so nothing hangs on
the speed of this machine; where the host is measured, the measurement is a fake."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unfoldc
from unfoldc import one_build, pipeline, tuning, tuning_trials
from unfoldc.cli import main
from unfoldc.errors import InputError, TargetError
from unfoldc.kernels import schedule_choices
from unfoldc.runtime import backends, products
from unfoldc.runtime.tuning_judge import Judge
from unfoldc.runtime.tuning_measure import Sample
from unfoldc.tune_log import entry_of, read_log

DEVICE = "cortex-m4"
DEFAULT = schedule_choices.default_choices
SPACE = {"rows": (1, 8), "terms": (1, 2)}  # 1 row at a time, the default in these tests, is far from the best


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("builds")


@pytest.fixture(autouse=True)
def built_once(builds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real compiler, which sees each program once in all these tests."""
    original = products.make_product

    def make(artifact: Any, target: str, kind: str, folder: Path) -> str:
        text = json.dumps([sorted(artifact.sources.items()), target])
        place = builds / hashlib.sha256(text.encode()).hexdigest()
        if not place.exists():
            place.mkdir()
            (place / "name").write_text(original(artifact, target, kind, place))
        for file in place.iterdir():
            if file.name != "name":
                shutil.copy(file, folder)
        return (place / "name").read_text()

    for module in (one_build, tuning_trials):
        monkeypatch.setattr(module, "make_product", make)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A search through three schedules, some of which are faster than the default."""
    few_schedules(monkeypatch, SPACE)
    return monkeypatch


def few_schedules(monkeypatch: pytest.MonkeyPatch, space: Mapping[str, tuple[int, ...]]) -> None:
    def default(*given: Any) -> Any:  # with loops, for without any the other choices change nothing
        return replace(DEFAULT(*given), rows=space["rows"][0], straight=0)

    monkeypatch.setattr(schedule_choices, "default_choices", default)
    monkeypatch.setattr(tuning_trials, "choices_for", lambda spec, backend: space)


def tuned(model: Path, **options: Any) -> Any:
    return pipeline.compile(model, DEVICE, **{"tune": 60.0, **options})


def instructions(solver: Any, tiny: Any) -> int:
    found = solver.profile({"y": tiny.problems(1)}).instructions
    assert found is not None
    return int(found)


def test_on_a_device_instructions_decide(
    model: Path, tiny: Any, cache: Path, few: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The best is kept, said, remembered, saved, and found again with more time; the log holds every measurement."""
    said: list[str] = []
    log = tmp_path / "log.jsonl"
    solver = tuned(model, progress=said.append, tune_log=log)
    untuned = pipeline.compile(model, DEVICE)
    gain = instructions(untuned, tiny) - instructions(solver, tiny)
    y = tiny.problems()
    np.testing.assert_allclose(solver(y), tiny.solve(y), atol=1e-5)
    assert gain > 0, solver.backend_reason
    assert f"tuned: {instructions(solver, tiny)} instructions for {instructions(untuned, tiny)} inst" in (
        solver.backend_reason
    )
    assert "nothing left to try" in solver.backend_reason
    assert any("schedules (" in line and "of untuned" in line and "s left" in line for line in said)

    entries, refused = read_log(log)
    assert not refused and all(e.right and e.samples[0].unit == "instructions" for e in entries)
    assert len({json.dumps(dict(e.choices)) for e in entries}) == len(entries) >= 2

    saved = solver.save(tmp_path / "saved")
    notes = json.loads((saved / "artifact.json").read_text())["artifact"]["notes"]
    best = min(entries, key=lambda e: e.samples[0].candidate)
    assert notes["schedule"] == dict(best.choices) and notes["tuning"].startswith("tuned: ")
    (kept,) = saved.rglob(tuning.LOG)
    assert read_log(kept) == (entries, 0)
    assert instructions(pipeline.load(saved), tiny) == instructions(solver, tiny)

    few.setattr(tuning_trials, "make_product", None)  # nothing is compiled any more
    again = tuned(model, tune=600.0, tune_log=tmp_path / "other.jsonl")
    assert again.backend_reason == solver.backend_reason
    assert read_log(tmp_path / "other.jsonl") == (entries, 0)
    elsewhere = pipeline.compile(model, DEVICE, tune=60.0, tune_log=log, cache=False)
    assert f"{len(entries)} from the log" in elsewhere.backend_reason and elsewhere.artifact.notes["schedule"] == dict(
        best.choices
    )


def test_counted_figures_are_the_same_each_time(model: Path, few: pytest.MonkeyPatch, tmp_path: Path) -> None:
    logs = [tmp_path / name for name in ("a", "b")]
    for log in logs:
        tuned(model, tune_log=log, cache=False)
    assert logs[0].read_text() == logs[1].read_text()


class Host:
    """Stands for the measurement on the host: `ratio` of a candidate, by its number, in the search and at the end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, search: Callable[[int], float], final: float) -> None:
        self.search, self.final, self.count = search, final, 0
        monkeypatch.setattr(tuning_trials, "compare", self.compare)
        monkeypatch.setattr(tuning, "confirm", self.confirm)
        sides = {"side_by_side": ("fit", "half", "none")}
        monkeypatch.setattr(tuning_trials, "choices_for", lambda spec, backend: sides)

    def compare(self, artifact: Any, untuned: Any, candidate: Any, work: Any, *_: Any, **__: Any) -> list[Sample]:
        self.count += 1
        return self.samples(work, self.search(self.count))

    def confirm(self, artifact: Any, untuned: Any, candidate: Any, work: Any, *_: Any) -> list[Sample]:
        return self.samples(work, self.final)

    @staticmethod
    def samples(work: Any, ratio: float) -> list[Sample]:
        return [Sample(w.batch, "s", ratio * 1e-5, 1e-5, ratio, ratio, ratio, 0.0) for w in work]


@pytest.mark.parametrize(("final", "kept"), [(1.2, True), (1.0, True), (0.995, True), (0.8, False)])
def test_what_the_last_run_does_not_confirm_is_not_kept(
    model: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch, final: float, kept: bool
) -> None:
    """The search found 40 % each time; the last run knows better."""
    Host(monkeypatch, lambda n: 0.6, final)
    solver = pipeline.compile(model, backend="c", tune=20.0, cache=False)
    assert ("schedule" not in solver.artifact.notes) == kept
    assert ("untuned is kept" in solver.backend_reason) == kept
    assert f"{final * 10:.3g} us for 10 us untuned" in solver.backend_reason
    np.testing.assert_allclose(solver(tiny.problems()), tiny.solve(tiny.problems()), atol=1e-5)


def test_the_back_end_that_auto_chooses_is_tuned(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What choosing it found is still said."""
    Host(monkeypatch, lambda n: 0.6, 0.8)
    monkeypatch.delenv("UNFOLDC_AUTO")
    monkeypatch.setattr(backends, "_RIVALS", {})
    solver = pipeline.compile(model, tune=20.0, cache=False)
    assert solver.backend_reason.startswith("auto: c; tuned: 8 us for 10 us untuned")
    assert solver.artifact.notes["schedule"] and solver.artifact.notes["choice"] == "c"


def test_wrong_answers_are_dropped_and_reported(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = Host(monkeypatch, lambda n: 0.5, 0.5)
    monkeypatch.setattr(Judge, "fault", lambda self, engine: "it is 3 off")
    solver = pipeline.compile(model, backend="c", tune=20.0, cache=False, tune_log=tmp_path / "log")
    assert "no schedule was faster than untuned" in solver.backend_reason and "wrong answers" in solver.backend_reason
    entries, _ = read_log(tmp_path / "log")
    assert (
        entries
        and host.count == 0
        and {(e.right, e.reason) for e in entries} == {(False, "wrong answers: it is 3 off")}
    )


def test_what_cannot_be_built_is_dropped_and_reported(model: Path, few: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: Any) -> str:
        raise TargetError("flash", "3 bytes too much", "", "")

    few.setattr(tuning_trials, "make_product", fail)
    solver = tuned(model, cache=False, tune_log=tmp_path / "log")
    assert "not built" in solver.backend_reason
    assert {e.reason for e in read_log(tmp_path / "log")[0]} == {"not built: 3 bytes too much"}


@pytest.mark.parametrize("when", [1, 3])
def test_ctrl_c_keeps_the_best_so_far(
    model: Path, tiny: Any, few: pytest.MonkeyPatch, tmp_path: Path, when: int
) -> None:
    original, calls = backends.open_engine, iter(range(100))

    def interrupted(build: Any, **options: Any) -> Any:
        if next(calls) == when:  # the first is the untuned solver
            raise KeyboardInterrupt
        return original(build, **options)

    few.setattr(tuning_trials, "open_engine", interrupted)
    few.setattr("os.cpu_count", lambda: 1)
    solver = tuned(model, cache=False, tune_log=tmp_path / "log")
    entries, refused = read_log(tmp_path / "log")
    assert "interrupted" in solver.backend_reason and len(entries) == when - 1 and not refused
    assert ("schedule" in solver.artifact.notes) == any(e.samples[0].ratio < 1 for e in entries)
    np.testing.assert_allclose(solver(tiny.problems()), tiny.solve(tiny.problems()), atol=1e-5)


def test_an_interrupted_tuning_goes_on_where_it_stopped(model: Path, cache: Path, few: pytest.MonkeyPatch) -> None:
    original = tuning_trials.Trials.scores

    def interrupted(self: Any, wanted: Any) -> list[float]:
        original(self, wanted)
        raise KeyboardInterrupt

    few.setattr(tuning_trials.Trials, "scores", interrupted)
    assert "interrupted" in tuned(model).backend_reason
    few.setattr(tuning_trials.Trials, "scores", original)
    solver = tuned(model)
    assert "interrupted" not in solver.backend_reason and "from the log" in solver.backend_reason


def hostile(line: str, changes: dict[str, Any]) -> str:
    return json.dumps(json.loads(line) | changes) + "\n"


def test_a_log_of_somebody_else_is_not_believed(
    model: Path, tiny: Any, few: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It says that one schedule takes 1 instruction, and brings choices that nobody offers."""
    few_schedules(few, {"rows": (8, 1), "terms": (1, 2)})
    log, other = tmp_path / "log", tmp_path / "other"
    tuned(model, cache=False, tune_log=log)
    lines = log.read_text().splitlines()
    (slow,) = [e for e in map(entry_of, lines) if e and e.choices == {"rows": 1}]
    assert slow.samples[0].ratio > 1.05
    lie = replace(slow, samples=[replace(slow.samples[0], candidate=1.0, ratio=1e-6, low=1e-6, high=1e-6)])
    other.write_text(
        lie.line
        + hostile(lines[0], {"choices": {"rows": 10**9}})
        + hostile(lines[0], {"choices": {"__init__": "x"}})
        + "{\n"
    )
    solver = tuned(model, cache=False, tune_log=other)
    assert instructions(solver, tiny) <= instructions(pipeline.compile(model, DEVICE, cache=False), tiny)
    assert solver.artifact.notes.get("schedule") != {"rows": 1}
    assert "3 lines of the log are not valid" in solver.backend_reason


def test_what_a_log_calls_right_is_compiled_and_judged_again(
    model: Path, few: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    assert "schedule" in tuned(model, cache=False, tune_log=log).artifact.notes

    def fail(*_: Any) -> Any:
        raise ValueError("a pass does not take it")

    for where, name, instead in ((Judge, "fault", lambda *_: "it is 3 off"), (tuning_trials.Trials, "compiled", fail)):
        few.setattr(where, name, instead)
        solver = tuned(model, cache=False, tune_log=log)
        assert "from the log" in solver.backend_reason and "untuned is kept" in solver.backend_reason
        assert "schedule" not in solver.artifact.notes


def test_figures_of_other_versions_are_measured_again_but_first(
    model: Path, few: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log, other = tmp_path / "log", tmp_path / "other"
    honest = tuned(model, cache=False, tune_log=log)
    best = honest.artifact.notes["schedule"]
    (line,) = [x for x in log.read_text().splitlines() if json.loads(x)["choices"] == best]
    other.write_text(hostile(line, {"versions": {"ziglang": "0.1"}}))
    solver = tuned(model, cache=False, tune_log=other)
    second = json.loads(other.read_text().splitlines()[1])
    assert second["choices"] == best and second["versions"] != {"ziglang": "0.1"}
    assert solver.artifact.notes["schedule"] == best and "from the log" not in solver.backend_reason


def test_a_log_that_knows_more_than_the_cache_is_looked_at(
    model: Path, cache: Path, few: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    tuned(model, cache=False, tune_log=log)
    lines = log.read_text().splitlines(keepends=True)
    short = tmp_path / "short"
    short.write_text("")
    first = tuned(model, tune_log=short)
    assert "from the log" not in first.backend_reason
    short.write_text("".join(lines) + hostile(lines[0], {"choices": {"rows": 2, "terms": 8}, "processor": "another"}))
    again = tuned(model, tune_log=short)
    assert "from the log" in again.backend_reason


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tune": 0}, "seconds above 0"),
        ({"tune": -1.0}, "seconds above 0"),
        ({"tune": float("nan")}, "seconds above 0"),
        ({"tune": float("inf")}, "seconds above 0"),
        ({"tune": True}, "seconds above 0"),
        ({"tune": "30"}, "seconds above 0"),
        ({"tune_log": "x"}, "without tune"),
        ({"tune": 5, "backend": "reference"}, "back end 'reference', which has no schedule of ours"),
        ({"tune": 5, "backend": "onnxruntime"}, "back end 'onnxruntime', which has no schedule of ours"),
        ({"tune": 5, "backend": "c", "sparse": True}, "sparse"),
        ({"tune": 5, "on": "serial:/dev/ttyACM0", "target": DEVICE}, "flashed"),
    ],
)
def test_what_cannot_be_tuned(model: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        unfoldc.compile(model, **options)


def test_the_command_line(
    model: Path, cache: Path, few: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.jsonl"
    arguments = ["compile", str(model), "--target", DEVICE, "-o", str(tmp_path / "build")]
    assert main([*arguments, "--tune", "60", "--tune-log", str(log)]) == 0
    assert "instructions for" in capsys.readouterr().out and log.is_file()
    assert main([*arguments, "--tune-log", str(log)]) == 1
    assert "tune_log: given without tune" in capsys.readouterr().err
    assert main(["profile", str(tmp_path / "build"), "--tune", "3"]) == 1
    assert "--tune: given for" in capsys.readouterr().err
    for wrong in ("0", "nan", "x"):
        with pytest.raises(SystemExit):
            main([*arguments, "--tune", wrong])


def test_nothing_is_left_behind(model: Path, few: pytest.MonkeyPatch, tmp_path: Path) -> None:
    few.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    solver = tuned(model, cache=False)
    assert len(set(tmp_path.iterdir()) - before) == 1
    del solver
    assert set(tmp_path.iterdir()) == before
