"""Schedules drawn at random, compiled by the real compilers: each answers as float64 does, on every back end."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from unfoldc import pipeline
from unfoldc.kernels.pipeline import build_artifact, load_program
from unfoldc.kernels.schedule_choices import ScheduleChoices, choices_for, default_for
from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.backends import open_engine
from unfoldc.runtime.engine_reference import ReferenceEngine
from unfoldc.runtime.products import make_product
from unfoldc.runtime.tuning_judge import Judge
from unfoldc.targets import find_target

N = 40


@pytest.fixture(scope="module")
def gram(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six gradient steps with tanh on a symmetric matrix of order 40: x <- tanh(x - (x G - y) / 8)."""
    half = np.random.default_rng(1).standard_normal((N, N))
    weights = {"G": (half @ half.T / N).astype(np.float32), "mu": np.array(0.125, np.float32)}
    nodes, x = [], "y"
    for k in range(6):
        p, r, s, d, after = f"p{k}", f"r{k}", f"s{k}", f"d{k}", "x" if k == 5 else f"x{k}"
        steps = [("MatMul", [x, "G"], p), ("Sub", [p, "y"], r), ("Mul", [r, "mu"], s), ("Sub", [x, s], d)]
        steps.append(("Tanh", [d], after))
        nodes += [helper.make_node(op, given, [o], name=f"iteration.{k}/{op}_{o}") for op, given, o in steps]
        x = after
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", N]) for n in ("y", "x")]
    values = [numpy_helper.from_array(v, n) for n, v in weights.items()]
    graph = helper.make_graph(nodes, "gram", ports[:1], ports[1:], values)
    path = tmp_path_factory.mktemp("gram") / "gram.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def drawn(dice: random.Random, space: Any, default: ScheduleChoices) -> ScheduleChoices:
    names = dice.sample(list(space), min(len(space), dice.choice((4, 99))))
    return replace(default, **{n: dice.choice(space[n]) for n in names})


@pytest.mark.parametrize(
    ("target", "backend", "count"),
    [
        ("host", "c", 1),
        ("cortex-m4", "c", 1),
        pytest.param("host", "c", 12, marks=pytest.mark.slow),
        pytest.param("cortex-m4", "c", 12, marks=pytest.mark.slow),
        pytest.param("cortex-a53", "c", 6, marks=pytest.mark.slow),
        pytest.param("host", "numba", 6, marks=pytest.mark.slow),
        pytest.param("host", "tvm", 8, marks=pytest.mark.slow),
        pytest.param("cortex-m4", "tvm", 4, marks=pytest.mark.slow),
    ],
)
def test_every_schedule_answers_as_float64_does(
    gram: Path, tmp_path: Path, target: str, backend: str, count: int
) -> None:
    found = find_target(target)
    model, program = load_program(gram)

    def opened(choices: ScheduleChoices | None, place: Path) -> Any:
        place.mkdir()
        host = found.kind == "host"
        artifact = build_artifact(model, program, found.spec, backend, "solver", host, choices=choices)
        product = make_product(artifact, target, found.kind, place)
        return artifact, open_engine(Build(artifact, place, target, found.kind, product))

    artifact, untuned = opened(None, tmp_path / "untuned")
    judge = Judge(artifact, untuned, ReferenceEngine(artifact, gram, {}, "float64"), emulated=found.kind != "host")
    assert judge.fault(untuned) == ""
    dice, space = random.Random(f"{target} {backend} {count}"), choices_for(found.spec, backend)
    for number in range(count):
        choices = drawn(dice, space, default_for(found.spec, backend))
        _, engine = opened(choices, tmp_path / str(number))
        assert judge.fault(engine) == "", choices


def test_a_moment_of_real_tuning_on_the_host(gram: Path, cache: Path) -> None:
    """Whatever it finds on this machine, the answers are right and it says what it did."""
    solver = pipeline.compile(gram, backend="c", tune=1.5)
    assert "tun" in solver.backend_reason and "schedules: " in solver.backend_reason
    exact = ReferenceEngine(solver.artifact, gram, {}, "float64")
    untuned = open_engine(Build(solver.artifact, solver._build.folder, "host", "host", solver._build.product))
    assert Judge(solver.artifact, untuned, exact, emulated=False).fault(untuned) == ""
