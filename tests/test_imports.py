"""What an import loads, seen from a fresh process: a device must not pay for, or own, what it does not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ["export", "kernels", "runtime", "targets", "unfold_train"]
# Import names; each is loaded by the call that needs it.
HEAVY = {"elftools", "llvmlite", "matplotlib", "numba", "onnxruntime", "onnxscript"}
HEAVY |= {"scipy", "skimage", "torch", "tqdm", "tvm", "unicorn", "ziglang"}


def run(code: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, timeout=120)


def loaded_by(code: str, tmp_path: Path) -> set[str]:
    """Top-level names in `sys.modules` after `code`."""
    result = run(f"{code}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))", tmp_path)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_the_runtime_needs_numpy_and_nothing_else(tmp_path: Path) -> None:
    loaded = loaded_by("import unfoldc.runtime", tmp_path)
    assert not loaded & (HEAVY | {"onnx"})


def test_the_top_package_loads_nothing(tmp_path: Path) -> None:
    loaded = loaded_by("import unfoldc", tmp_path)
    assert not loaded & (HEAVY | {"numpy", "onnx"})


@pytest.mark.parametrize("package", ["kernels", "runtime", "targets"])
def test_no_module_that_a_device_uses_imports_a_heavy_library(package: str, tmp_path: Path) -> None:
    code = f"""
import importlib, pkgutil
import unfoldc.{package} as package
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
"""
    assert not loaded_by(code, tmp_path) & HEAVY


def test_the_command_line_starts_without_a_heavy_library(tmp_path: Path) -> None:
    assert not loaded_by("import unfoldc.cli", tmp_path) & (HEAVY | {"onnx"})


def test_every_public_name_is_there(tmp_path: Path) -> None:
    result = run("import unfoldc\nfor name in unfoldc.__all__: getattr(unfoldc, name)", tmp_path)
    assert result.returncode == 0, result.stderr


def test_an_unknown_public_name_is_an_attribute_error(tmp_path: Path) -> None:
    result = run("import unfoldc\nunfoldc.compiler", tmp_path)
    assert "AttributeError: module 'unfoldc' has no attribute 'compiler'; it has " in result.stderr


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_no_package_of_its_own(folder: str) -> None:
    result = run(f"import {folder}")
    assert result.returncode != 0
    message = f"ImportError: import this package as unfoldc.{folder}; the folder is not a package of its own"
    assert result.stderr.splitlines()[-1] == message
