"""Saving and loading: what comes back, what is refused, and that nothing half-written stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.errors import InputError, ModelError
from unfoldc.runtime import artifact_folder
from unfoldc.runtime.artifact_folder import Build, read_build
from unfoldc.runtime.load import load
from unfoldc.runtime.solver import Solver


def test_a_loaded_solver_gives_the_same_answers(solver: Solver, lista: Any, tmp_path: Path) -> None:
    folder = solver.save(tmp_path / "a" / "build")
    again = load(folder)
    y = lista.problems(5)
    np.testing.assert_array_equal(again(y), solver(y))
    assert (again.inputs, again.outputs, again.iterations) == (solver.inputs, solver.outputs, solver.iterations)
    assert again.backend_reason == "saved with backend c"
    assert sorted(p.name for p in tmp_path.joinpath("a").iterdir()) == ["build"]


def test_everything_of_an_artifact_comes_back(lista_build: Build, lista: Any) -> None:
    original, read = lista.artifact(), lista_build.artifact
    assert replace(read, sources={}, weights={}, notes={}) == replace(original, sources={}, weights={}, notes={})
    assert dict(read.sources) == dict(original.sources) and read.notes == {"rolled": 4}
    assert sorted(read.weights) == ["W1", "W2"] and len(read.weights) == 2
    np.testing.assert_array_equal(read.weights["W2"], lista.w2)


def test_saving_replaces_an_earlier_build(solver: Solver, lista: Any, tmp_path: Path) -> None:
    folder = solver.save(tmp_path / "build")
    (folder / "old.txt").write_text("old")
    solver.save(folder)
    assert not (folder / "old.txt").exists()
    load(folder)(lista.problems(1))
    assert [p.name for p in tmp_path.iterdir()] == ["build"]


def test_saving_into_an_empty_folder(solver: Solver, tmp_path: Path) -> None:
    assert load(solver.save(tmp_path)).iterations == 4


def test_saving_over_something_else_is_refused(solver: Solver, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="it holds something else; allowed: a new or empty folder"):
        solver.save(tmp_path)
    with pytest.raises(InputError, match="it holds something else"):
        solver.save(tmp_path / "notes.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_failed_save_leaves_the_old_build(solver: Solver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = solver.save(tmp_path / "build")
    original = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.startswith(".partial-"):
            raise OSError("disk full")
        return original(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(InputError, match="build: it cannot be written .disk full"):
        solver.save(folder)
    monkeypatch.undo()
    assert load(folder).iterations == 4 and [p.name for p in tmp_path.iterdir()] == ["build"]


def test_a_disk_without_room_is_named_once(solver: Solver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path, **_: Any) -> None:
        raise OSError(28, "No space left on device", str(source), None, str(target))

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(InputError) as error:
        artifact_folder.copy_build(solver._build, tmp_path / "build")
    assert (error.value.where, error.value.found) == (
        str(tmp_path / "build"), "it cannot be written (No space left on device)",
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_save_leaves_nothing(solver: Solver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(artifact_folder, "replace_folder", interrupt)
    with pytest.raises(KeyboardInterrupt):
        solver.save(tmp_path / "build")
    assert list(tmp_path.iterdir()) == []


def test_saving_after_the_cache_was_cleared_says_so(lista_build: Build, tmp_path: Path) -> None:
    gone = replace(lista_build, folder=tmp_path / "gone")
    with pytest.raises(InputError, match="the compiled files are gone .* Compile or load the model again, then save"):
        artifact_folder.copy_build(gone, tmp_path / "build")


def _edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        index = folder / "artifact.json"
        data = json.loads(index.read_text())
        data = change(data) or data
        index.write_text(json.dumps(data))

    return apply


def _truncate(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = next(folder.glob(name))
        path.write_bytes(path.read_bytes()[:-20])

    return apply


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "no such folder; allowed: a folder written by solver.save."),
    "no index": (lambda f: (f / "artifact.json").unlink(), "no artifact.json in it"),
    "index truncated": (_truncate("artifact.json"), "the file is damaged ("),
    "index of another kind": (_edit(lambda d: [1]), "format 'list'; allowed: format 1."),
    "index nested too deep": (lambda f: (f / "artifact.json").write_text("[" * 100000), "the file is damaged ("),
    "later format": (_edit(lambda d: d.update(format=99)), "format 99; allowed: format 1. Save the solver again"),
    "index without ports": (_edit(lambda d: d["artifact"].pop("inputs") and None), "is damaged (KeyError: 'inputs')"),
    "index with wrong ports": (_edit(lambda d: d["artifact"].update(inputs=3)), "the file is damaged (TypeError"),
    "path outside": (_edit(lambda d: d["files"].update({"../x": ""})), "file name '../x' leaves the folder"),
    "source outside": (_edit(lambda d: d["artifact"].update(sources=["/etc/passwd"])), "leaves the folder"),
    "library missing": (lambda f: next(f.glob("*.so")).unlink(), "the file is missing"),
    "library truncated": (_truncate("*.so"), "its content is not what was saved"),
    "source changed": (lambda f: (f / "lista.c").write_text("int x;"), "lista.c: the file is damaged"),
    "weights truncated": (_truncate("weights.npz"), "weights.npz: the file is damaged"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_folder_is_refused(solver: Solver, tmp_path: Path, case: str) -> None:
    damage, message = DAMAGED[case]
    folder = solver.save(tmp_path / "build")
    damage(folder)
    with pytest.raises(ModelError) as error:
        load(folder)
    assert message in str(error.value)


def test_damaged_weights_are_found_when_they_are_read(solver: Solver, tmp_path: Path) -> None:
    folder = solver.save(tmp_path / "build")
    (folder / "weights.npz").write_bytes(b"not an archive")
    weights = read_build(folder, check=False).artifact.weights
    with pytest.raises(ModelError, match=r"weights\.npz: the file is damaged"):
        weights["W1"]


def test_pickled_weights_are_not_opened(solver: Solver, tmp_path: Path) -> None:
    folder = solver.save(tmp_path / "build")
    np.savez(folder / "weights.npz", W1=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ModelError, match="the file is damaged .*allow_pickle"):
        read_build(folder, check=False).artifact.weights["W1"]


def test_a_library_for_another_processor_is_built_again(
    solver: Solver, lista: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = solver.save(tmp_path / "build")
    foreign = json.loads((folder / "artifact.json").read_text()) | {"processor": "x86_64-ffffffffffffffff"}
    (folder / "artifact.json").write_text(json.dumps(foreign))
    before = {p: p.read_bytes() for p in folder.iterdir()}
    again = load(folder)
    assert again.backend_reason == "saved with backend c; compiled again for this processor"
    np.testing.assert_array_equal(again(lista.problems(2)), solver(lista.problems(2)))
    assert {p: p.read_bytes() for p in folder.iterdir()} == before
    copy = again.save(tmp_path / "copy")
    assert load(copy).backend_reason == "saved with backend c"


def test_a_new_build_at_an_old_place_is_the_one_that_runs(lista: Any, tmp_path: Path, lista_build: Build) -> None:
    """The loader of libraries knows them by path, so a replaced file must not have its old name."""
    from unfoldc.runtime.artifact_folder import write_build
    from unfoldc.runtime.load import open_build
    from unfoldc.runtime.products import make_product

    y = lista.problems(1)
    first = load(open_build(lista_build).save(tmp_path / "build"))
    right = first(y)
    halved = {n: t.replace("x[i] = s->x[i]", "x[i] = s->x[i] / 2") for n, t in lista_build.artifact.sources.items()}
    artifact = replace(lista_build.artifact, sources=halved, weights={})
    other = tmp_path / "other"
    other.mkdir()
    build = Build(artifact, other, "host", "host", make_product(artifact, "host", "host", other), lista_build.processor)
    write_build(build)
    open_build(build).save(tmp_path / "build")
    np.testing.assert_allclose(load(tmp_path / "build")(y), right / 2)
    np.testing.assert_array_equal(first(y), right)
