"""Archives of arrays under any name."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from unfoldc.runtime.npz import read_npz, write_npz

NAMES = ["file", "allow_pickle", "self", "a/b", "../x", 'quo"te\n', "W1"]


def test_any_name_comes_back(tmp_path: Path) -> None:
    arrays = {name: np.full((2, i), i, np.float32) for i, name in enumerate(NAMES)} | {"empty": np.zeros((0, 3))}
    write_npz(tmp_path / "x.npz", arrays)
    for found in (read_npz(tmp_path / "x.npz"), dict(np.load(tmp_path / "x.npz"))):
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


def test_equal_arrays_make_equal_files(tmp_path: Path) -> None:
    for name in "ab":
        write_npz(tmp_path / name, {"W": np.arange(5)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with zipfile.ZipFile(tmp_path / "a") as archive:
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


def test_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    objects = np.array([{}], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle"):
        write_npz(tmp_path / "x.npz", {"a": objects})
    np.savez(tmp_path / "y.npz", a=objects)
    with pytest.raises(ValueError, match="allow_pickle"):
        read_npz(tmp_path / "y.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"text", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError):
        read_npz(tmp_path / "x.npz")
    with pytest.raises(OSError):
        read_npz(tmp_path / "none.npz")
