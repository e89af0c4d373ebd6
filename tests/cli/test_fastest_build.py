"""`backend="auto"`: what is measured, what is remembered, what is said."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from unfoldc import fastest_build, one_build, pipeline
from unfoldc.errors import ModelError, ToolError
from unfoldc.runtime import backends, products
from unfoldc.runtime.contest import Verdict


class Referee:
    """Names the winner and writes down who took part."""

    def __init__(self, winner: str) -> None:
        self.winner, self.seen = winner, list[list[str]]()

    def __call__(self, engines: Mapping[str, Any], artifact: Any, arbiter: Any) -> Verdict:
        self.seen.append(list(engines))
        y, x = np.ones((1, 5), np.float32), np.zeros((1, 9), np.float32)
        answers = []
        for engine in (*engines.values(), arbiter()):
            engine.solve([y], [x], 1, 3)
            answers.append(x.copy())
        assert all(np.allclose(answer, answers[0], atol=1e-6) and answer.any() for answer in answers)
        return Verdict(self.winner, f"{self.winner}, as the referee says")


@pytest.fixture
def measuring(cache: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Measure as for a user with an empty cache; the rival is NumPy, which needs no compiler."""
    monkeypatch.delenv("UNFOLDC_AUTO")
    monkeypatch.setattr(backends, "_RIVALS", {"reference": 0})
    return monkeypatch


@pytest.mark.parametrize("winner", ["c", "reference"])
def test_the_winner_is_kept_and_remembered(
    model: Path, tiny: Any, cache: Path, measuring: pytest.MonkeyPatch, winner: str, tmp_path: Path
) -> None:
    referee = Referee(winner)
    measuring.setattr(fastest_build, "contest", referee)
    first = pipeline.compile(model)
    assert referee.seen == [["c", "reference"]]
    again = pipeline.compile(model)
    assert len(referee.seen) == 1 and len(list(cache.iterdir())) == 1
    for solver in (first, again, pipeline.load(first.save(tmp_path / "saved"))):
        assert solver.backend == winner
        np.testing.assert_allclose(solver(tiny.problems()), tiny.solve(tiny.problems()), atol=1e-6)
    assert first.backend_reason == again.backend_reason == f"auto: {winner}, as the referee says"
    assert pipeline.load(tmp_path / "saved").backend_reason == f"saved with backend {winner}"
    assert (tmp_path / "saved" / "solver.c").is_file() == (winner == "c")


def test_without_the_cache_nothing_else_is_left_behind(
    model: Path, measuring: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measuring.setattr("tempfile.tempdir", str(tmp_path))
    measuring.setattr(fastest_build, "contest", Referee("reference"))
    before = set(tmp_path.iterdir())
    solver = pipeline.compile(model, cache=False)
    assert solver.backend == "reference" and len(set(tmp_path.iterdir()) - before) == 1


def test_what_would_take_long_to_compile_is_not_measured(model: Path, measuring: pytest.MonkeyPatch) -> None:
    measuring.setattr(backends, "_RIVALS", {"numba": 100})
    measuring.setattr(fastest_build, "contest", None)
    solver = pipeline.compile(model)
    assert solver.backend_reason == "auto: c; numba would take long to compile"


def test_a_rival_that_cannot_be_built_is_left_out(model: Path, measuring: pytest.MonkeyPatch) -> None:
    original = products.make_product

    def fail(artifact: Any, *rest: Any) -> str:
        if artifact.backend == "reference":
            raise ToolError("reference", "it is broken", "", "")
        return original(artifact, *rest)

    measuring.setattr(one_build, "make_product", fail)
    solver = pipeline.compile(model)
    assert solver.backend_reason == "auto: c; reference cannot compile it: it is broken"


@pytest.mark.parametrize("failing", ["unfoldc.kernels.pipeline.build_artifact", "unfoldc.fastest_build.open_engine"])
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ModelError("reference", "no such operator", "", ""), "no such operator"),
        (OSError("no LLVM"), "OSError: no LLVM"),
    ],
)
def test_whatever_a_rival_raises_the_solver_is_built_with_c(
    model: Path, measuring: pytest.MonkeyPatch, failing: str, error: Exception, text: str
) -> None:
    module, name = failing.rsplit(".", 1)
    original = getattr(importlib.import_module(module), name)

    def fail(*arguments: Any, **options: Any) -> Any:
        backend = arguments[3] if name == "build_artifact" else arguments[0].artifact.backend
        if backend == "reference":
            raise error
        return original(*arguments, **options)

    measuring.setattr(failing, fail)
    solver = pipeline.compile(model)
    assert solver.backend_reason == f"auto: c; reference cannot compile it: {text}"


def test_a_measurement_that_fails_leaves_c(model: Path, measuring: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Verdict:
        raise MemoryError("64 problems")

    measuring.setattr(fastest_build, "contest", fail)
    solver = pipeline.compile(model)
    assert solver.backend == "c"
    assert solver.backend_reason == "auto: c; the others could not be measured (MemoryError: 64 problems)"


def test_who_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNFOLDC_AUTO")
    assert backends.measures("auto", "c", "host")
    for other in (("c", "c", "host"), ("auto", "numba", "host"), ("auto", "c", "emulated")):
        assert not backends.measures(*other)
    monkeypatch.setenv("UNFOLDC_AUTO", "first")
    assert not backends.measures("auto", "c", "host")
    monkeypatch.setattr(backends, "_installed", lambda name: name != "numba")
    monkeypatch.setitem(sys.modules, "tvm", object())
    assert backends.rivals() == ["tvm"]
    monkeypatch.setattr(backends, "_installed", lambda name: True)
    monkeypatch.delitem(sys.modules, "tvm")
    assert backends.rivals() == ["numba"]


def test_the_real_measurement(tmp_path: Path, measuring: pytest.MonkeyPatch) -> None:
    """Which one wins hangs on the machine; the answer and the report do not."""
    measuring.undo()
    measuring.delenv("UNFOLDC_AUTO")
    measuring.setattr(backends, "_RIVALS", {"numba": backends._RIVALS["numba"]})
    steps = pairwise(["y", "x0", "x1", "x"])
    nodes = [helper.make_node("Tanh", [a], [b], name=f"iteration.{k}/{b}") for k, (a, b) in enumerate(steps)]
    given, wanted = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 7]) for n in ("y", "x"))
    graph = helper.make_graph(nodes, "g", [given], [wanted])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "tanh.onnx")
    solver = pipeline.compile(tmp_path / "tanh.onnx", cache=False)
    y = np.random.default_rng(0).standard_normal((3, 7)).astype(np.float32)
    np.testing.assert_allclose(solver(y), np.tanh(np.tanh(np.tanh(y))), atol=1e-6)
    assert solver.backend_reason.startswith(f"auto: {solver.backend}, measured on this machine (c ")
    assert ", numba " in solver.backend_reason and "for 64 problems" in solver.backend_reason
