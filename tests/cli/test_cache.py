"""The cache folder, its keys and its limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unfoldc import cache as cache_module
from unfoldc.cache import cache_folder, cache_key, prune, touch


def test_the_folder_follows_the_rules_of_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "unfoldc" / "solvers"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for unset in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache_folder() == tmp_path / "home" / ".cache" / "unfoldc" / "solvers"
    assert (tmp_path / "x" / "unfoldc" / "solvers").stat().st_mode & 0o077 == 0


def test_no_folder_where_none_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder() is None


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_no_folder_that_others_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache_folder()
    assert folder is not None
    folder.chmod(mode)
    assert cache_folder() is None


def test_no_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() is not None
    monkeypatch.setattr(os, "getuid", lambda: -5)
    assert cache_folder() is None


def test_a_key_depends_on_all_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    key = cache_key(b"model", {"batch": 1})
    assert key == cache_key(b"model", {"batch": 1}) and len(key) == 64
    others = {cache_key(b"model2", {"batch": 1}), cache_key(b"model", {"batch": 2}), cache_key(b"model", {})}
    monkeypatch.setattr(cache_module, "processor", lambda: "another")
    others.add(cache_key(b"model", {"batch": 1}))
    monkeypatch.undo()
    monkeypatch.setattr(cache_module, "_versions", lambda: {"ziglang": "0"})
    others.add(cache_key(b"model", {"batch": 1}))
    monkeypatch.undo()
    monkeypatch.setattr(cache_module, "_own_sources", lambda: "another")
    others.add(cache_key(b"model", {"batch": 1}))
    assert len(others | {key}) == 7


def test_what_was_not_used_for_longest_is_removed(tmp_path: Path) -> None:
    for i in range(6):
        (tmp_path / str(i)).mkdir()
        os.utime(tmp_path / str(i), (i, i))
    (tmp_path / ".partial-1").mkdir()
    touch(tmp_path / "0")
    prune(tmp_path, most=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".partial-1", "0", "4", "5"]
    prune(tmp_path / "none")
