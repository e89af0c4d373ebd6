"""Loading shared libraries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.errors import ToolError
from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.engine_library import LibraryEngine, address


def test_the_address_of_an_array() -> None:
    array = np.arange(12.0).reshape(3, 4)
    for view in (array, array[1:], array.T, np.zeros(0), np.zeros((1, 5), np.float32)):
        assert address(view) == view.ctypes.data


def test_a_file_that_is_no_library_is_refused(lista_build: Build, tmp_path: Path) -> None:
    (tmp_path / "x.so").write_bytes(b"nothing")
    with pytest.raises(ToolError, match=r"cannot be loaded .*Compile the model again on this machine"):
        LibraryEngine(lista_build.artifact, tmp_path / "x.so")
    with pytest.raises(ToolError, match="cannot be loaded"):
        LibraryEngine(lista_build.artifact, tmp_path / "none.so")


def test_a_library_of_another_solver_is_refused(lista_build: Build) -> None:
    artifact = replace(lista_build.artifact, symbol="other")
    with pytest.raises(ToolError, match="other_host_workspace"):
        LibraryEngine(artifact, lista_build.folder / lista_build.product)


def test_workspaces_are_aligned_and_never_handed_out_twice(lista_build: Build, lista: Any) -> None:
    engine = LibraryEngine(lista_build.artifact, lista_build.folder / lista_build.product)
    y, x = lista.problems(1), np.empty((1, 9), np.float32)
    for _ in range(3):
        engine.solve([y], [x], 1, 4)
        engine.profile([y], [x], 1, 4, np.zeros(6, np.uint64))
    assert len(engine._pool) == 1
    assert all(engine._new_workspace().address % 64 == 0 for _ in range(20))


def test_ticks_are_added_to_each_part(lista_build: Build, lista: Any) -> None:
    engine = LibraryEngine(lista_build.artifact, lista_build.folder / lista_build.product)
    y, x = lista.problems(50), np.empty((50, 9), np.float32)
    ticks = np.zeros(6, np.uint64)
    engine.profile([y], [x], 50, 4, ticks)
    np.testing.assert_allclose(x, lista.solve(y), atol=1e-6)
    assert (ticks > 0).all()
    once = ticks.copy()
    engine.profile([y], [x], 50, 4, ticks)
    assert (ticks > once).all()
    engine.profile([y], [x], 50, 2, twice := np.zeros(6, np.uint64))
    assert list(twice > 0) == [True, True, True, False, False, True]
