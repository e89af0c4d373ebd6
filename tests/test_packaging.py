"""pyproject.toml and constraints.txt say what is on the disk and in the code."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
# Import name -> package on PyPI, where they differ.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cuda": "cuda-bindings",
    "nvmath": "nvmath-python",
    "elftools": "pyelftools",
    "google": "protobuf",
    "skimage": "scikit-image",
    "tvm": "apache-tvm",
}
# Used without an import statement: a folder of photographs, a module imported by its name, programs, what numba loads.
NOT_IMPORTED = {"deepinv", "scikit-image", "unicorn", "ziglang"}
NOT_IMPORTED |= {"numba-cuda", "nvidia-cuda-nvrtc", "nvidia-nvjitlink", "nvidia-nvvm"}


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def folders(pyproject: dict[str, Any]) -> dict[str, Path]:
    """Import name -> folder, for the packages at the top level."""
    return {name: ROOT / folder for name, folder in pyproject["tool"]["setuptools"]["package-dir"].items()}


def packages_on_disk(folders: dict[str, Path]) -> Iterator[tuple[str, Path]]:
    """Each folder that holds Python files, with its import name."""
    for name, top in folders.items():
        for folder in [top, *(path for path in top.rglob("*") if path.is_dir() and path.name != "__pycache__")]:
            if any(folder.glob("*.py")):
                yield ".".join([name, *folder.relative_to(top).parts]), folder


def pins() -> dict[str, Version]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


def requirements(pyproject: dict[str, Any], without: str = "") -> list[Requirement]:
    """All that the project and its extras ask for, without its own name; one extra may be left out."""
    project = pyproject["project"]
    texts = [*pyproject["build-system"]["requires"], *project["dependencies"]]
    for extra, wanted in project["optional-dependencies"].items():
        texts += wanted if extra != without else []
    return [r for r in map(Requirement, texts) if r.name != "unfoldc"]


def test_every_package_folder_is_listed(pyproject: dict[str, Any], folders: dict[str, Path]) -> None:
    assert pyproject["tool"]["setuptools"]["packages"] == sorted(name for name, _ in packages_on_disk(folders))


def test_every_package_folder_has_an_init(folders: dict[str, Path]) -> None:
    assert [str(folder) for _, folder in packages_on_disk(folders) if not (folder / "__init__.py").is_file()] == []


def test_all_that_is_required_is_pinned(pyproject: dict[str, Any]) -> None:
    """What is required, and what that requires in turn, is pinned to the version that is installed."""
    pinned = pins()
    # `make` installs no peers of the benchmark.
    without = "" if importlib.util.find_spec("openvino") and importlib.util.find_spec("emx_onnx_cgen") else "bench"
    waiting = [(r.name, frozenset(r.extras)) for r in requirements(pyproject, without)]
    seen = set()
    wrong = []
    while waiting:
        name, extras = waiting.pop()
        if (name := canonicalize_name(name)) in seen:
            continue
        seen.add(name)
        installed = importlib.metadata.distribution(name)
        if pinned.get(name) != Version(Version(installed.version).public):
            wrong.append(f"{name}: pinned to {pinned.get(name)}, installed {installed.version}")
        for text in installed.requires or []:
            requirement = Requirement(text)
            environments = [{"extra": extra} for extra in (extras or {""})]
            if requirement.marker is None or any(requirement.marker.evaluate(e) for e in environments):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    assert wrong == []


def test_pins_are_what_the_project_allows(pyproject: dict[str, Any]) -> None:
    pinned = pins()
    assert [str(r) for r in requirements(pyproject) if pinned[canonicalize_name(r.name)] not in r.specifier] == []


def test_nothing_is_required_from_elsewhere_than_the_index(pyproject: dict[str, Any]) -> None:
    assert [str(r) for r in requirements(pyproject) if r.url] == []


def imported(folder: Path) -> set[str]:
    """Top-level names of the third-party modules that the files directly in `folder` import, wherever in the file."""
    names: set[str] = set()
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: imports must be absolute"
                names.add(str(node.module).partition(".")[0])
    return names - sys.stdlib_module_names - {"unfoldc"}


def test_what_the_code_imports_is_declared(pyproject: dict[str, Any], folders: dict[str, Path]) -> None:
    names = set().union(*(imported(folder) for _, folder in packages_on_disk(folders)))
    used = {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in names} | NOT_IMPORTED
    extras = pyproject["project"]["optional-dependencies"]
    texts = [*pyproject["project"]["dependencies"]]
    for extra in extras.keys() - {"all", "dev", "bench"}:
        texts += extras[extra]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    assert sorted(used - declared) == [], "imported, but not declared"
    assert sorted(declared - used) == [], "declared, but not imported"


def test_a_wheel_holds_every_file_of_the_packages(folders: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for file in ["pyproject.toml", "LICENSE", "README.md"]:
        shutil.copy(ROOT / file, source)
    for folder in folders.values():
        shutil.copytree(
            folder, source / folder.relative_to(ROOT), ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run(
        [*command, "--wheel-dir", str(tmp_path), str(source)], capture_output=True, text=True, timeout=300
    )
    assert built.returncode == 0, built.stdout + built.stderr
    expected = {
        f"{name.replace('.', '/')}/{file.relative_to(folder).as_posix()}"
        for name, folder in folders.items()
        for file in folder.rglob("*")
        if file.is_file() and file.parent.name != "__pycache__"
    }
    (wheel,) = tmp_path.glob("unfoldc-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected
    assert "unfoldc/py.typed" in found
