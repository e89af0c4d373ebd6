"""Compiling through the public call: the cache, and that every refusal is a named error that leaves nothing behind."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from unfoldc import one_build, pipeline
from unfoldc.errors import InputError, ModelError, TargetError, UnfoldcError
from unfoldc.kernels import pipeline as compiler


def entries(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.iterdir()) if cache.is_dir() else []


def count_compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    original = compiler.compile_onnx

    def counted(path: Any, spec: Any, backend: str, **options: Any) -> Any:
        calls.append(backend)
        return original(path, spec, backend, **options)

    monkeypatch.setattr(compiler, "compile_onnx", counted)
    return calls


@pytest.mark.parametrize("backend", ["c", "reference"])
def test_the_compiled_solver_answers(model: Path, tiny: Any, backend: str) -> None:
    solver = pipeline.compile(model, backend=backend)
    y = tiny.problems()
    np.testing.assert_allclose(solver(y), tiny.solve(y), atol=1e-6)
    for k in (1, 2, 3):
        np.testing.assert_allclose(solver.run({"y": y}, k).outputs["x"], tiny.solve(y, k), atol=1e-6)
    assert (solver.iterations, solver.backend, solver.target) == (3, backend, "host")


def test_the_second_time_nothing_is_compiled(
    model: Path, tiny: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_compilations(monkeypatch)
    first = pipeline.compile(model)
    again = pipeline.compile(model)
    assert calls == ["c"] and len(entries(cache)) == 1
    np.testing.assert_array_equal(first(tiny.problems()), again(tiny.problems()))
    assert first.backend_reason == again.backend_reason == "auto: c, the fastest on host"


def test_every_option_has_an_entry_of_its_own(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_compilations(monkeypatch)
    for options in [{}, {"batch": 2}, {"symbol": "tiny"}, {"backend": "reference"}, {"dimensions": {"batch": 3}}]:
        pipeline.compile(model, **options)  # type: ignore[arg-type]
    assert len(calls) == len(entries(cache)) == 5
    pipeline.compile(model, batch="dynamic")
    assert len(calls) == 5


def test_another_model_under_the_same_name_is_compiled(
    model: Path, tiny: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pipeline.compile(model)
    changed = tiny.model()
    changed.graph.initializer[2].raw_data = np.float32(0.5).tobytes()
    onnx.save(changed, model)
    assert not np.allclose(pipeline.compile(model)(tiny.problems()), before(tiny.problems()))
    assert len(entries(cache)) == 2


def test_changed_external_data_are_compiled_again(tiny: Any, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "external.onnx"
    onnx.save(tiny.model(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    first = pipeline.compile(path)
    np.testing.assert_allclose(first(tiny.problems()), tiny.solve(tiny.problems()), atol=1e-6)
    data = np.fromfile(tmp_path / "weights.bin", np.float32)
    (data * 2).tofile(tmp_path / "weights.bin")
    assert not np.allclose(pipeline.compile(path)(tiny.problems()), first(tiny.problems()))
    saved = pipeline.compile(path, backend="reference").save(tmp_path / "saved")
    assert (saved / "model" / "weights.bin").is_file()
    np.testing.assert_allclose(
        pipeline.load(saved)(tiny.problems()), pipeline.compile(path)(tiny.problems()), atol=1e-6
    )


@pytest.mark.parametrize("damage", ["index", "library", "emptied"])
def test_a_damaged_entry_is_compiled_again(model: Path, tiny: Any, cache: Path, damage: str) -> None:
    pipeline.compile(model)
    entry = cache / entries(cache)[0]
    if damage == "index":
        (entry / "artifact.json").write_text("{")
    elif damage == "library":
        library = next(entry.glob("*.so"))
        library.unlink()
        library.write_bytes(b"")
    else:
        for file in entry.glob("*.*"):
            file.unlink()
    np.testing.assert_allclose(pipeline.compile(model)(tiny.problems()), tiny.solve(tiny.problems()), atol=1e-6)


@pytest.mark.parametrize(
    ("backend", "name"),
    [("numba", "weights.npz"), ("reference", "model/model.onnx"), ("onnxruntime", "solver_split.json")],
)
def test_a_damage_that_shows_when_an_entry_is_opened(
    model: Path, tiny: Any, cache: Path, backend: str, name: str
) -> None:
    y = tiny.problems()
    right = pipeline.compile(model, backend=backend)(y)
    (entry,) = cache.iterdir()
    for content in ((entry / name).read_bytes()[:30], None):
        (entry / name).unlink()
        if content is not None:
            (entry / name).write_bytes(content)
        np.testing.assert_array_equal(pipeline.compile(model, backend=backend)(y), right)
    assert list(cache.iterdir()) == [entry] and (entry / name).stat().st_size > 30


def test_without_the_cache_a_temporary_folder_lives_as_long_as_the_solver(
    model: Path, tiny: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    solver = pipeline.compile(model, cache=False)
    np.testing.assert_allclose(solver(tiny.problems()), tiny.solve(tiny.problems()), atol=1e-6)
    assert len(list(temporary.iterdir())) == 1 and entries(cache) == []
    kept = solver.save(tmp_path / "kept")
    del solver
    gc.collect()
    assert list(temporary.iterdir()) == []
    np.testing.assert_allclose(pipeline.load(kept)(tiny.problems()), tiny.solve(tiny.problems()), atol=1e-6)


def test_a_cache_that_others_may_write_to_is_not_used(model: Path, tiny: Any, cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    np.testing.assert_allclose(pipeline.compile(model)(tiny.problems()), tiny.solve(tiny.problems()), atol=1e-6)
    assert entries(cache) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
@pytest.mark.parametrize("use_cache", [True, False])
def test_an_interrupted_compilation_leaves_nothing(
    model: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    use_cache: bool,
) -> None:
    def interrupt(*_: Any) -> None:
        raise error

    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(one_build, "make_product", interrupt)
    with pytest.raises(error):
        pipeline.compile(model, cache=use_cache)
    assert entries(cache) == [] and list(temporary.iterdir()) == []


def test_a_model_that_changes_meanwhile_is_not_cached(
    model: Path, tiny: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = compiler.compile_onnx

    def slow(path: Any, *rest: Any, **options: Any) -> Any:
        artifact = original(path, *rest, **options)
        onnx.save(tiny.model(batch=7), path)
        return artifact

    monkeypatch.setattr(compiler, "compile_onnx", slow)
    with pytest.raises(ModelError, match="the file changed while it was compiled; allowed: a file at rest"):
        pipeline.compile(model)
    assert entries(cache) == []


def test_progress_is_told(model: Path, cache: Path) -> None:
    lines: list[str] = []
    pipeline.compile(model, progress=lines.append)
    assert lines == ["compiling the model", "building for host"]
    lines.clear()
    pipeline.compile(model, progress=lines.append)
    assert lines == []


WRONG: dict[str, tuple[dict[str, Any], type[UnfoldcError], str]] = {
    "target": ({"target": "cortex-m99"}, TargetError, "cortex-m99"),
    "back end": ({"backend": "opencl"}, InputError, "backend opencl on target host: no such back end"),
    "symbol": ({"symbol": "a b; system()"}, InputError, "symbol: 'a b; system()'; allowed: a letter, then up to 39"),
    "batch": ({"batch": 0}, InputError, 'batch: 0; allowed: a positive number, "dynamic" or None.'),
    "batch text": ({"batch": "all"}, InputError, "batch: 'all'"),
    "batch fraction": ({"batch": 1.5}, InputError, "batch: 1.5"),
    "dimension": ({"dimensions": {"n": -1}}, InputError, "dimension n: -1; allowed: a positive number."),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_option_is_refused(model: Path, cache: Path, case: str) -> None:
    options, kind, message = WRONG[case]
    with pytest.raises(kind) as error:
        pipeline.compile(model, **options)
    assert message in str(error.value) and entries(cache) == []


def test_a_model_that_cannot_be_read_is_refused(tmp_path: Path, model: Path, cache: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx: the file cannot be read \(No such file"):
        pipeline.compile(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="the file cannot be read .* a readable .onnx file"):
        pipeline.compile(tmp_path)
    model.write_bytes(model.read_bytes()[:-30])
    with pytest.raises(ModelError):
        pipeline.compile(model)
    assert entries(cache) == []


def test_a_warm_compilation_loads_no_compiler(model: Path, cache: Path) -> None:
    """Nor anything else that takes long to import: with a warm cache a solver is there in milliseconds."""
    code = """
import sys, unfoldc
unfoldc.compile(sys.argv[1])([[1, 2, 3, 4, 5]])
slow = {"onnx", "torch", "numba", "tvm", "ziglang", "google.protobuf", "unfoldc.kernels.pipeline"}
print(*sorted(slow & set(sys.modules)))
"""
    for expected in ("google.protobuf onnx unfoldc.kernels.pipeline", ""):
        done = subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, expected, "")


def external_model(folder: Path, value: float, data: str = "w.bin") -> Path:
    """y + w with w in a file of its own."""
    folder.mkdir()
    shape: list[str | int | None] = ["batch", 4]
    graph = helper.make_graph(
        [helper.make_node("Add", ["y", "w"], ["x"])],
        "g",
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.array([value, value, value, -value], np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = folder / "solver.onnx"
    onnx.save(model, path, save_as_external_data=True, location=data, size_threshold=0)
    return path


@pytest.mark.parametrize("backend", ["c", "reference"])
def test_equal_models_with_other_external_data_stay_apart(tmp_path: Path, backend: str) -> None:
    y = np.zeros((1, 4), np.float32)
    first = pipeline.compile(external_model(tmp_path / "a", 2), backend=backend)
    second = pipeline.compile(external_model(tmp_path / "b", 5), backend=backend)
    first.save(tmp_path / "saved")
    assert (first(y)[0, 0], second(y)[0, 0], pipeline.load(tmp_path / "saved")(y)[0, 0]) == (2, 5, 2)


def test_external_data_may_be_called_as_our_copy_of_the_model(tmp_path: Path) -> None:
    solver = pipeline.compile(external_model(tmp_path / "a", 2, "model.onnx"), backend="reference")
    assert solver(np.zeros((1, 4), np.float32)).tolist() == [[2, 2, 2, -2]]
