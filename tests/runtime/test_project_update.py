"""A folder in which people work: what is replaced, what stays, what is refused, and what an interruption leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unfoldc.errors import InputError
from unfoldc.runtime.artifact_folder import INDEX
from unfoldc.runtime.project_update import holds_project, update_folder
from unfoldc.runtime.stored_files import digest

Stage = Callable[..., Path]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A build at rest: `files` are those that loading needs, `project` the others."""
    count = [0]

    def make(files: dict[str, str], project: dict[str, str] | None = None) -> Path:
        count[0] += 1
        folder = tmp_path / f"staged-{count[0]}"
        index: dict[str, Any] = {"format": 1}
        for key, texts in (("files", files), ("project", project)):
            if texts is None:
                continue
            for name, text in texts.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text)
            index[key] = {name: digest(folder / name) for name in texts}
        (folder / INDEX).write_text(json.dumps(index))
        return folder

    return make


def texts(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file() and p.name != INDEX
    }


@pytest.fixture
def folder(stage: Stage, tmp_path: Path) -> Path:
    """A project with solver.c, main.c, cmake/gcc.cmake and old/gone.c."""
    place = tmp_path / "project"
    place.mkdir()
    new = stage({"solver.c": "one", "old/gone.c": "old"}, {"main.c": "main", "cmake/gcc.cmake": "gcc"})
    assert update_folder(new, place) == ()
    assert holds_project(place)
    return place


def test_new_files_replace_and_others_stay(stage: Stage, folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    (folder / "cmake" / "mine.cmake").write_text("mine")
    (folder / "build").mkdir()
    (folder / "build" / "cache").write_text("theirs")
    kept = update_folder(stage({"solver.c": "two", "new/solver.h": "h"}, {"main.c": "main 2"}), folder)
    assert kept == ()
    assert texts(folder) == {
        "solver.c": "two", "new/solver.h": "h", "main.c": "main 2",
        "notes.txt": "mine", "cmake/mine.cmake": "mine", "build/cache": "theirs",
    }  # fmt: skip
    assert not (folder / "old").exists()


def test_what_was_changed_stays_and_is_named_every_time(stage: Stage, folder: Path) -> None:
    (folder / "main.c").write_text("my main")
    for text in ("main 2", "main 3"):
        assert update_folder(stage({"solver.c": "two"}, {"main.c": text}), folder) == ("main.c",)
        assert (folder / "main.c").read_text() == "my main"
    (folder / "cmake" / "gcc.cmake").parent.mkdir(exist_ok=True)
    assert update_folder(stage({"solver.c": "two"}, {"main.c": "my main"}), folder) == ()


def test_what_was_changed_and_is_no_longer_ours_stays(stage: Stage, folder: Path) -> None:
    (folder / "cmake" / "gcc.cmake").write_text("my tools")
    assert update_folder(stage({"solver.c": "two"}, {}), folder) == ()
    assert texts(folder) == {"solver.c": "two", "cmake/gcc.cmake": "my tools"}


def change_source(folder: Path) -> str:
    (folder / "solver.c").write_text("my fix")
    return "solver.c"


def take_a_name(folder: Path) -> str:
    (folder / "new.c").write_text("mine")
    return "new.c"


def take_a_folders_name(folder: Path) -> str:
    (folder / "sub").write_text("mine")
    return "sub/deep.c"


def put_a_folder(folder: Path) -> str:
    (folder / "new.c").mkdir()
    return "new.c"


def put_a_broken_link(folder: Path) -> str:
    (folder / "new.c").symlink_to("nowhere")
    return "new.c"


@pytest.mark.parametrize(
    "change",
    [change_source, take_a_name, take_a_folders_name, put_a_folder, put_a_broken_link],
    ids=lambda f: f.__name__,
)
def test_what_would_be_lost_is_refused_and_nothing_is_done(stage: Stage, folder: Path, change: Any) -> None:
    name = change(folder)
    before, index = texts(folder), (folder / INDEX).read_text()
    with pytest.raises(InputError, match="not as they are: (.*, )?" + name):
        update_folder(stage({"solver.c": "two", "new.c": "n", "sub/deep.c": "d"}, {"main.c": "main 2"}), folder)
    assert texts(folder) == before and (folder / INDEX).read_text() == index


def test_files_that_are_the_same_are_not_touched(stage: Stage, folder: Path) -> None:
    before = os.stat(folder / "solver.c").st_mtime_ns, os.stat(folder / "solver.c").st_ino
    update_folder(stage({"solver.c": "one"}, {"main.c": "main"}), folder)
    assert (os.stat(folder / "solver.c").st_mtime_ns, os.stat(folder / "solver.c").st_ino) == before


@pytest.mark.parametrize("stop", range(1, 6))
def test_an_interruption_is_completed_by_a_repetition(
    stage: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    (folder / "main.c").write_text("my main")
    (folder / "notes.txt").write_text("mine")
    files, project = {"solver.c": "two", "a/new.c": "n", "b.c": "b"}, {"main.c": "main 2", "cmake/gcc.cmake": "gcc 2"}
    done = [0]
    replace = os.replace

    def counted(source: Any, target: Any) -> None:
        done[0] += 1
        if done[0] == stop:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", counted)
    with pytest.raises(KeyboardInterrupt):
        update_folder(stage(files, project), folder)
    monkeypatch.setattr(os, "replace", replace)
    assert update_folder(stage(files, project), folder) == ("main.c",)
    assert texts(folder) == {**files, **project, "main.c": "my main", "notes.txt": "mine"}
    assert "earlier" not in json.loads((folder / INDEX).read_text())


def test_a_damaged_or_hostile_index_is_refused(stage: Stage, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.c"
    outside.write_text("not ours")
    new = stage({"solver.c": "two"}, {})
    hostile = {"files": {"../outside.c": digest(outside)}, "project": {}}
    for text in ("{", "[1]", json.dumps({"files": 3}), json.dumps(hostile)):
        (folder / INDEX).write_text(text)
        with pytest.raises(InputError, match="its artifact.json is damaged"):
            update_folder(new, folder)
    assert outside.read_text() == "not ours" and (folder / "solver.c").read_text() == "one"


def test_a_build_for_this_computer_in_a_projects_place_leaves_others_files_for_good(stage: Stage, folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    for text in ("host", "host 2"):
        update_folder(stage({"solver.c": text}), folder)
        assert texts(folder) == {"solver.c": text, "notes.txt": "mine"} and holds_project(folder)
