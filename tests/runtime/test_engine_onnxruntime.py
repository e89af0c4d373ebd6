"""Split models in ONNX Runtime: right after every iteration, whatever the operators, batch, provider and thread."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from opaque_models import MODELS, answers, one_iteration, problems, traced

import unfoldc
from unfoldc.errors import InputError, ModelError, ToolError
from unfoldc.kernels.split_onnx.artifact import split_file
from unfoldc.runtime import backends, onnxruntime_sessions
from unfoldc.runtime.onnxruntime_tools import split_tools
from unfoldc.runtime.solver import Solver
from unfoldc.runtime.split_workspaces import BoundWorkspace, OpenWorkspace

K = 4
Compile = Callable[..., Solver]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """Compiles a model, for ONNX Runtime unless something else is asked for."""

    def make(model: onnx.ModelProto, **options: Any) -> Solver:
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return unfoldc.compile(path, **{"backend": "onnxruntime", "cache": False, **options})

    return make


def error(found: Any, right: np.ndarray) -> float:
    assert found.shape == right.shape and found.dtype == right.dtype
    difference = np.linalg.norm(found.astype(float) - right.astype(float))
    return float(difference) / max(float(np.linalg.norm(right.astype(float))), 1e-30)


def inputs_of(solver: Solver, batch: int = 3) -> dict[str, np.ndarray]:
    return problems(solver.inputs[0].dtype, batch)


def workspace(solver: Solver) -> Any:
    engine: Any = solver._engine
    (pool,) = engine._runner._pools.values()
    return pool[0]


@pytest.mark.parametrize("name", MODELS)
def test_any_operator_runs_and_stops_early(name: str, compiled: Compile) -> None:
    solver = compiled(MODELS[name](K))
    assert solver.iterations == K and solver.backend == "onnxruntime"
    for batch in (3, 1):
        inputs = inputs_of(solver, batch)
        for k in range(1, K + 1):
            right = answers(MODELS[name](k), inputs)
            found = solver.run(inputs, k).outputs.values()
            limit = 5e-3 if name == "half" else 1e-5
            assert all(error(a, b) <= limit for a, b in zip(found, right, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_alike_iterations_are_one_model(name: str, compiled: Compile) -> None:
    files = [set(compiled(MODELS[name](count)).artifact.models) for count in (4, 9)]
    assert files[0] == files[1] == {"solver_begin.onnx", "solver_iterate.onnx", "solver_end.onnx"}


@pytest.mark.parametrize("name", one_iteration)
def test_what_cannot_be_cut_is_one_iteration(name: str, compiled: Compile) -> None:
    model = one_iteration[name](K)
    solver = compiled(model)
    assert solver.iterations == 1
    assert "is no array of numbers" in " ".join(solver.artifact.notes["not_rolled"])
    inputs = inputs_of(solver)
    assert error(solver(**inputs), answers(model, inputs)[0]) <= 1e-6


@pytest.mark.parametrize("open_shapes", [False, True])
def test_what_each_iteration_hands_out(open_shapes: bool, compiled: Compile) -> None:
    """The places of iterations that did not run hold zeros, also after a call in which they did."""
    solver = compiled(traced(K))
    assert set(solver.artifact.models) == {"solver_begin.onnx", "solver_iterate.onnx", "solver_end.onnx"}
    engine: Any = solver._engine
    engine._runner.open = open_shapes
    inputs = inputs_of(solver)
    for k in (K, 1, 3, K):
        x, trace = solver.run(inputs, k).outputs.values()
        right, iterates = answers(traced(k), inputs)
        assert error(x, right) <= 1e-6 and error(trace[:, :k], iterates) <= 1e-6
        assert trace.shape == (3, K, 6) and not trace[:, k:].any()
    assert engine._runner.open == open_shapes


def test_the_mean_of_all_iterates_has_no_early_stop(compiled: Compile) -> None:
    solver = compiled(traced(K, mean=True))
    inputs = inputs_of(solver)
    assert error(solver(**inputs), answers(traced(K, mean=True), inputs)[0]) <= 1e-6
    with pytest.raises(InputError, match="cannot stop early"):
        solver.run(inputs, 2)


def test_buffers_are_bound_once_and_states_change_places(compiled: Compile) -> None:
    solver = compiled(MODELS["gelu"](K))
    inputs = inputs_of(solver)
    first = solver(**inputs)
    space = workspace(solver)
    assert isinstance(space, BoundWorkspace)
    a, b = space.buffers["state 0.0"]
    assert [c["state 0.0"] for c in space.content[1:]] == [a, b, a, b]
    assert np.array_equal(solver(**inputs), first)
    assert workspace(solver) is space


def test_shapes_that_depend_on_data_are_left_to_the_runtime(compiled: Compile) -> None:
    solver = compiled(MODELS["shrinking"](K))
    solver(**inputs_of(solver))
    assert isinstance(workspace(solver), OpenWorkspace)
    assert solver.artifact.memory.scratch_bytes is None and solver.artifact.cost is None


def test_a_shape_that_was_seen_but_does_not_hold(compiled: Compile) -> None:
    solver = compiled(MODELS["gelu"](K))
    engine: Any = solver._engine
    runner = engine._runner
    inputs = inputs_of(solver)
    right = solver(**inputs)
    runner._pools.clear()
    runner.wiring["types"]["state 0.0"]["dims"] = ["batch", 5]
    assert np.array_equal(solver(**inputs), right) and runner.open
    assert np.array_equal(solver(**inputs), right)


def test_each_thread_has_its_own_state(compiled: Compile) -> None:
    solver = compiled(MODELS["fused"](K))
    batches = [{"y": problems()["y"] * (i + 1)} for i in range(8)]
    right = [solver(**inputs) for inputs in batches]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(30):
            if not np.array_equal(solver(**batches[i]), right[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_profile_has_a_row_for_each_iteration(compiled: Compile) -> None:
    solver = compiled(MODELS["gelu"](K))
    inputs = inputs_of(solver)
    profile = solver.profile(inputs, repeats=20, truth=answers(MODELS["gelu"](K), inputs)[0])
    assert [row.k for row in profile.iterations] == [1, 2, 3, 4]
    assert all(row.seconds_p50 and row.seconds_p50 > 0 for row in (profile.begin, *profile.iterations, profile.end))
    errors = [row.error for row in profile.iterations]
    assert errors[-1] is not None and errors[-1] <= 1e-6 and errors[0] is not None and errors[0] > 1e-3
    assert "4 iterations on host, backend onnxruntime" in str(profile)


def test_stamps_are_added_part_by_part(compiled: Compile) -> None:
    solver = compiled(MODELS["shrinking"](K))
    inputs = list(inputs_of(solver).values())
    outputs = [np.empty((3, 6), np.float32)]
    ticks = np.zeros(K + 2, np.uint64)
    solver._engine.profile(inputs, outputs, 3, 2, ticks)
    assert (ticks > 0).tolist() == [True, True, True, False, False, True]
    before = ticks.copy()
    solver._engine.profile(inputs, outputs, 3, K, ticks)
    assert (ticks > before).all()
    solver._engine.profile(inputs, outputs, 0, K, ticks.copy())


def test_saved_and_loaded_again(compiled: Compile, tmp_path: Path) -> None:
    solver = compiled(MODELS["branches"](K))
    inputs = inputs_of(solver)
    folder = solver.save(tmp_path / "build")
    models = sorted(p.name for p in folder.glob("*.onnx"))
    assert models == ["solver_begin.onnx", "solver_end.onnx", "solver_iterate.onnx"]
    for name in models:
        onnx.checker.check_model(onnx.load(folder / name))
    again = unfoldc.load(folder)
    for k in range(1, K + 1):
        found, right = again.run(inputs, k).outputs, solver.run(inputs, k).outputs
        assert all(np.array_equal(found[n], right[n]) for n in right)
    (folder / "solver_iterate.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="solver_iterate.onnx: the file is damaged"):
        unfoldc.load(folder)


def test_a_model_that_does_not_load_is_a_tool_error(compiled: Compile, tmp_path: Path) -> None:
    folder = compiled(MODELS["gelu"](K)).save(tmp_path / "build")
    index = json.loads((folder / "artifact.json").read_text())
    (folder / "solver_end.onnx").write_bytes(b"\x00\x01")
    index["files"].pop("solver_end.onnx")
    (folder / "artifact.json").write_text(json.dumps(index))
    with pytest.raises(ToolError, match="ONNX Runtime does not take the model"):
        unfoldc.load(folder)


def test_equal_inputs_equal_bytes(compiled: Compile) -> None:
    first, second = (compiled(MODELS["inner_loop"](K)).artifact for _ in range(2))
    assert dict(first.models) == dict(second.models) and dict(first.sources) == dict(second.sources)


def test_a_split_that_computes_something_else_is_found(tmp_path: Path) -> None:
    """The last guard: what was split is tried against the file before it is used."""
    path = tmp_path / "model.onnx"
    path.write_bytes(MODELS["fused"](K).SerializeToString())
    tools = split_tools()
    model, made, objections = split_file(path, None, None, tools)
    assert objections == [] and tools.check(path, model, made) == ""
    wrong = {name: value * (1.01 if name == "constant_0" else 1) for name, value in made.constants.items()}
    assert "is not what the file computes" in tools.check(path, model, replace(made, constants=wrong))
    lost = {name: value * np.nan for name, value in made.constants.items()}
    assert "is not what the file computes" in tools.check(path, model, replace(made, constants=lost))
    short = {name: value[..., :1] for name, value in made.constants.items()}
    assert "ONNX Runtime stopped" in tools.check(path, model, replace(made, constants=short))


def test_the_batch_may_be_fixed(compiled: Compile) -> None:
    solver = compiled(MODELS["determinant"](K), batch=3)
    inputs = inputs_of(solver)
    assert solver.batch == 3
    assert error(solver(**inputs), answers(MODELS["determinant"](K), inputs)[0]) <= 1e-6
    with pytest.raises(InputError, match=r"shape \(2, 4\)"):
        solver(inputs["y"][:2])


@pytest.mark.parametrize("axis", ["batch", "problems", ""])
def test_a_fixed_batch_fixes_all_shapes(axis: str, compiled: Compile) -> None:
    """An output of batch * 6 elements can be made for a fixed batch only."""
    model = MODELS["gelu"](K)
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    dim.ClearField("dim_param")
    if axis:
        dim.dim_param = axis
    last = model.graph.output[0].name
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1]), "flat"))
    model.graph.node.append(helper.make_node("Reshape", [last, "flat"], ["all"]))
    model.graph.output[0].name = "all"
    with pytest.raises(ModelError, match="output 'all': its shape depends"):
        compiled(model)
    solver = compiled(model, batch=3)
    inputs = inputs_of(solver)
    assert solver.inputs[0].shape == (3, 4) and solver.outputs[0].shape == (18,) and solver.batch is None
    for k in (1, K):
        right = MODELS["gelu"](k)
        assert error(solver.run(inputs, k).outputs["all"], answers(right, inputs)[0].reshape(-1)) <= 1e-6


def test_an_output_for_all_problems_together(compiled: Compile) -> None:
    model = MODELS["gelu"](K)
    last = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Flatten", [last], ["flat"], axis=2))
    model.graph.node.append(helper.make_node("ReduceSum", ["flat"], ["total"], keepdims=0))
    model.graph.output[0].name = "total"
    solver = compiled(model)
    inputs = inputs_of(solver)
    assert solver.outputs[0].shape == () and not solver.outputs[0].batched
    assert error(np.asarray(solver(**inputs)), np.asarray(answers(model, inputs)[0])) <= 1e-6


def test_an_output_whose_length_depends_on_data_is_refused(compiled: Compile) -> None:
    model = MODELS["gelu"](K)
    last = model.graph.output[0].name
    model.graph.node.append(helper.make_node("NonZero", [last], ["where"]))
    model.graph.output[0].name = "where"
    with pytest.raises(ModelError, match="output 'where': its shape depends on the data"):
        compiled(model)


def test_providers_are_chosen_and_checked(compiled: Compile, tmp_path: Path) -> None:
    runtime = onnxruntime_sessions.load_onnxruntime()
    inputs = problems()
    right = answers(MODELS["gelu"](K), inputs)[0]
    for provider in set(runtime.get_available_providers()) & {"AzureExecutionProvider", "CPUExecutionProvider"}:
        solver = compiled(MODELS["gelu"](K), providers=[provider], threads=2)
        engine: Any = solver._engine
        assert engine._runner.end.session.get_providers()[0] == provider
        assert error(solver(**inputs), right) <= 1e-6
    folder = solver.save(tmp_path / "build")
    unfoldc.load(folder, providers=["CPUExecutionProvider"])
    message = "'NoSuchProvider'; allowed: .*CPUExecutionProvider"
    with pytest.raises(InputError, match=message):
        compiled(MODELS["gelu"](K), providers=["NoSuchProvider"])
    with pytest.raises(InputError, match=message):
        unfoldc.load(folder, providers=["NoSuchProvider"])
    with pytest.raises(InputError, match="providers: none; allowed: "):
        compiled(MODELS["gelu"](K), providers=[])


def test_options_of_the_runtime_belong_to_it(compiled: Compile) -> None:
    with pytest.raises(InputError, match="providers: given for backend reference"):
        compiled(MODELS["gelu"](K), backend="reference", providers=["CPUExecutionProvider"])
    for threads in (0, True, 1.5):
        with pytest.raises(InputError, match="threads: .*; allowed: 1 or more"):
            compiled(MODELS["gelu"](K), threads=threads)


def test_data_that_an_operator_refuses_are_reported(compiled: Compile) -> None:
    model = MODELS["gelu"](K)
    model.graph.input.append(helper.make_tensor_value_info("rows", onnx.TensorProto.INT64, [6]))
    model.graph.node.append(helper.make_node("Gather", [model.graph.output[0].name, "rows"], ["picked"], axis=1))
    model.graph.output[0].name = "picked"
    solver = compiled(model)
    inputs = {**inputs_of(solver), "rows": np.arange(6)}
    assert error(solver(**inputs), answers(model, inputs)[0]) <= 1e-6
    with pytest.raises(ToolError, match="ONNX Runtime stopped: .*indices element out of data bounds"):
        solver(**{**inputs, "rows": np.full(6, 9)})


# -- the automatic choice ------------------------------------------------------------------------------------------


def test_auto_falls_back_and_says_so(compiled: Compile, tmp_path: Path) -> None:
    solver = compiled(MODELS["gelu"](K), backend="auto")
    inputs = inputs_of(solver)
    (note,) = solver.notes
    assert solver.backend == "onnxruntime" and solver.backend_reason == f"auto: {note}"
    assert note.startswith("onnxruntime, because c refuses the model (") and "com.microsoft.Gelu" in note
    assert error(solver(**inputs), answers(MODELS["gelu"](K), inputs)[0]) <= 1e-6
    assert unfoldc.load(solver.save(tmp_path / "build")).notes == (note,)


def test_back_ends_that_were_asked_for_still_refuse(compiled: Compile) -> None:
    for backend in ("c", "numba", "reference"):
        with pytest.raises(ModelError, match="com.microsoft.Gelu is not known to the compiler"):
            compiled(MODELS["gelu"](K), backend=backend)
    assert compiled(MODELS["gelu"](K)).notes == ()


def test_auto_on_a_device_refuses(compiled: Compile) -> None:
    with pytest.raises(ModelError, match="com.microsoft.Gelu is not known to the compiler"):
        compiled(MODELS["gelu"](K), backend="auto", target="cortex-m4")


def test_without_onnxruntime_the_compiler_has_the_last_word(compiled: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = backends._installed
    monkeypatch.setattr(backends, "_installed", lambda name: name != "onnxruntime" and installed(name))
    with pytest.raises(ModelError, match="com.microsoft.Gelu is not known to the compiler"):
        compiled(MODELS["gelu"](K), backend="auto")
    with pytest.raises(ToolError, match="onnxruntime not installed"):
        compiled(MODELS["gelu"](K))
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ToolError, match="onnxruntime cannot be imported|onnxruntime not installed"):
        onnxruntime_sessions.load_onnxruntime()


def _nan(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == "W1")
    tensor.raw_data = np.full(24, np.nan, np.float32).tobytes()


def _short(model: onnx.ModelProto) -> None:
    next(t for t in model.graph.initializer if t.name == "W1").raw_data = b"\0" * 8


def _nothing_there(model: onnx.ModelProto) -> None:
    model.graph.node[-1].op_type = "NoSuchOperator"


def _wrong_size(model: onnx.ModelProto) -> None:
    next(t for t in model.graph.initializer if t.name == "W2").dims[:] = [4, 9]


def _unbound(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "width"


def _reads_nothing(model: onnx.ModelProto) -> None:
    model.graph.node[-1].input[0] = "nobody"


DAMAGED = {
    "NaN": (_nan, "24 of 24 weights are NaN"),
    "short": (_short, "its data are damaged"),
    "unknown": (_nothing_there, "NoSuchOperator"),
    "sizes": (_wrong_size, "no sound model.*Incompatible dimensions"),
    "unbound": (_unbound, "'width' that nobody bound"),
    "missing": (_reads_nothing, "no sound model.*nobody"),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
def test_auto_does_not_fall_back_for_a_damaged_model(name: str, backend: str, compiled: Compile) -> None:
    change, message = DAMAGED[name]
    model = MODELS["gelu"](K)
    change(model)
    with pytest.raises(ModelError, match=message if backend == "onnxruntime" else "model.onnx: "):
        compiled(model, backend=backend)
