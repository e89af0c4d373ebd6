"""Laws over all models: no pass, lowering or schedule changes what a model computes, after any iteration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unfoldc.errors import InputError, ModelError
from unfoldc.kernels import pipeline
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.lower import lower
from unfoldc.kernels.pipeline import (
    PASSES,
    build_artifact,
    bytes_per_iteration,
    check_symbol,
    compile_onnx,
    load_program,
    optimise,
)
from unfoldc.kernels.printers.reference import evaluate, iterate_outputs
from unfoldc.kernels.program import Program
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.kernels.schedule import schedule
from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.kernels.verify import verify_loops, verify_program

K = 4
HOST = TargetSpec("host", 64, vector_bits=512, accumulators=16, batch_lanes=8)
NARROW = TargetSpec("narrow", 64, vector_bits=128, accumulators=3)
M4 = TargetSpec("cortex-m4", 32, vector_bits=0, accumulators=4, float_types=("float32",))
SCHEDULES = {"host": (HOST, 1), "narrow": (NARROW, 1), "cortex-m4": (M4, 1), "lanes": (HOST, 8)}


def truths(workshop: Any, solver: Any, inputs: dict[str, np.ndarray]) -> list[list[np.ndarray]]:
    """The outputs of the unrolled models of 1, 2, ... K iterations."""
    return [evaluate(import_onnx(workshop.saved(solver.name, k)).program, inputs) for k in range(1, K + 1)]


@pytest.fixture
def problem(solver: Any, workshop: Any) -> dict[str, np.ndarray]:
    return workshop.single(solver.problems(), import_onnx(workshop.saved(solver.name, K)), 1)


def test_passes_keep_the_meaning(solver: Any, workshop: Any, problem: dict[str, np.ndarray]) -> None:
    program = import_onnx(workshop.saved(solver.name, K)).program
    wanted = truths(workshop, solver, problem)
    for pass_ in PASSES:
        program = pass_(program)
        verify_program(program, after=pass_.__name__)
        # Constants are computed in their own type, which rounds.
        limit = 1e-12 if pass_ is PASSES[0] else 1e-6
        workshop.close(evaluate(program, problem), wanted[-1], limit)
        if program.rolled and not program.early_stop and program.iterations == K:
            for found, expected in zip(iterate_outputs(program, problem), wanted, strict=True):
                workshop.close(found, expected, limit)


def test_iterations_roll_as_far_as_they_can(solver: Any, workshop: Any) -> None:
    program = optimise(import_onnx(workshop.saved(solver.name, K)).program, verify=True)
    assert len(program.segments) == solver.segments, program.notes
    assert (program.early_stop == "") == solver.stops
    assert len(program.notes) == solver.segments - 1


@pytest.mark.parametrize("spec", [None, *SCHEDULES])
def test_loops_compute_the_same(solver: Any, workshop: Any, problem: dict[str, np.ndarray], spec: str | None) -> None:
    program = optimise(import_onnx(workshop.saved(solver.name, K)).program)
    loops = lower(program)
    if spec is not None:
        loops = schedule(loops, *SCHEDULES[spec])
    verify_loops(loops)
    stops = range(1, program.iterations) if not program.early_stop else ()
    for k in (*stops, program.iterations):
        workshop.close(_run(loops, program, problem, k), evaluate(program, problem, iterations=k), 2e-5)


def _run(loops: LoopProgram, program: Program, inputs: dict[str, np.ndarray], iterations: int) -> list[np.ndarray]:
    arguments = dict(zip(loops.inputs, (inputs[name] for name in program.inputs), strict=True))
    found = run(loops, arguments, iterations)
    return [found[name] for name in loops.outputs]


@pytest.mark.parametrize("iterations", [1, 2, 10])
def test_other_numbers_of_iterations(solver: Any, workshop: Any, iterations: int) -> None:
    model, program = load_program(workshop.saved(solver.name, iterations))
    inputs = workshop.single(solver.problems(), model, 0)
    workshop.close(evaluate(program, inputs), evaluate(model.program, inputs), 1e-5)
    verify_loops(lower(program))


def test_every_pass_is_verified(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(program: Program) -> Program:
        return replace(program, end=(), outputs=("nothing",))

    monkeypatch.setattr(pipeline, "PASSES", (broken,))
    program = import_onnx(workshop.saved("ista_tied", 2)).program
    with pytest.raises(ValueError, match="after broken: output 'nothing' is not made"):
        optimise(program, verify=True)


def test_output_does_not_depend_on_the_run(workshop: Any) -> None:
    path = workshop.saved("admm", K)
    first, second = (compile_onnx(path, M4, "c").sources for _ in range(2))
    assert first == second


@pytest.mark.parametrize("backend", pipeline.BACKENDS)
def test_artifact(workshop: Any, backend: str) -> None:
    artifact = compile_onnx(workshop.saved("fista", K), HOST, backend, "fista")
    assert (artifact.symbol, artifact.backend, artifact.iterations, artifact.early_stop) == ("fista", backend, K, "")
    assert [(p.name, p.shape, p.batched) for p in artifact.inputs] == [("y", (4,), True)]
    assert artifact.memory.state_bytes and artifact.memory.state_bytes > 0
    assert bool(artifact.sources) == (backend != "reference")
    assert bool(artifact.models) == (artifact.cost is None) == (backend == "onnxruntime")
    if artifact.cost is not None:
        assert artifact.memory.constant_bytes == sum(v.nbytes for v in artifact.weights.values())
        assert len(artifact.cost.iterate_flops) == K


def test_tied_weights_cost_the_same_for_any_k(workshop: Any) -> None:
    short, long = (compile_onnx(workshop.saved("ista_tied", k), M4, "c").memory for k in (2, 10))
    assert short == long


def test_options(workshop: Any) -> None:
    path = workshop.saved("ista_tied", 1)
    with pytest.raises(InputError, match="back end 'fortran'; allowed: c, numba, tvm, reference"):
        compile_onnx(path, HOST, "fortran")
    for symbol in ("", "1x", "a-b", "x" * 41, "a b", "_x", 'x"'):
        with pytest.raises(InputError, match="allowed: a letter, then up to 39 letters, digits or _"):
            compile_onnx(path, HOST, "c", symbol)
    check_symbol("solver_2")


def test_host_driver_only_where_wanted(workshop: Any) -> None:
    model, program = load_program(workshop.saved("ista_tied", 1))
    assert "s_host.c" in build_artifact(model, program, HOST, "c", "s", host=True).sources
    assert "s_host.c" not in build_artifact(model, program, M4, "c", "s", host=False).sources


def test_long_chains_compile(workshop: Any) -> None:
    """Hundreds of pointwise steps or views in one iteration do not nest into one expression."""
    g = workshop.Graph()
    x = g.input("y", "batch", 6)
    for _ in range(300):
        x = g("Mul", g("Sin", x), g.weight("w", [1.0, 0.9, 0.99, 1.0, 0.8, 1.01]))
    for i in range(100):
        x = g("Transpose", g("Reshape", x, g.weight(f"s{i % 2}", [-1, 2 + i % 2, 3 - i % 2], "int64")), perm=[0, 2, 1])
    path = workshop.save(g.model(x))
    model, program = load_program(path)
    loops = lower(program)
    verify_loops(loops)
    inputs = workshop.single(workshop.feeds(g.model(x), 1), model, 0)
    workshop.close(_run(loops, program, inputs, program.iterations), evaluate(program, inputs), 1e-4)


def test_nesting_too_deep_to_walk_is_refused(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(_: Program) -> Program:
        raise RecursionError

    monkeypatch.setattr(pipeline, "PASSES", (deep,))
    with pytest.raises(ModelError, match="its operations nest too deep"):
        load_program(workshop.saved("ista_tied", 1))


def test_what_one_more_iteration_costs_is_noted(workshop: Any) -> None:
    notes = {}
    for name in ("ista_tied", "ista_untied"):
        notes[name] = bytes_per_iteration(optimise(import_onnx(workshop.saved(name, 4)).program))
    assert notes["ista_untied"] > notes["ista_tied"]
