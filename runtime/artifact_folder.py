"""A build folder: a compiled solver on disk. Like a shared library it is code, and loading it is trusting it.

It holds `artifact.json` (everything about the solver, with a SHA-256 of each file), the sources, `weights.npz`, the
compiled product (a shared library or firmware; none where ONNX models are run as they are) and a copy of the model with
its external data.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from unfoldc.errors import InputError, ModelError
from unfoldc.kernels.artifact import Artifact, Cost, MemoryPlan, Port
from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.runtime.folders import aside, replace_folder, writing
from unfoldc.runtime.npz import write_npz
from unfoldc.runtime.programs import drop_programs
from unfoldc.runtime.stored_files import Weights, damaged, digest, inside, model_files, source_files, there

FORMAT = 1
INDEX = "artifact.json"
WEIGHTS = "weights.npz"
ASIDE = "unfoldc"
"""The folder within a project in which lies what is for loading alone."""


@dataclass(frozen=True)
class Build:
    """A compiled solver and the folder it lies in.

    `kind`: "host", "gpu" or "emulated". `product`: the file an engine runs, "" where it runs the sources.
    `processor`: the machine a host product was compiled for. `model`: the copy of the ONNX file, with the `options` it
    is imported with. `external`: SHA-256 of the model's external data files.
    """

    artifact: Artifact
    folder: Path
    target: str
    kind: str
    product: str = ""
    processor: str = ""
    model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    external: Mapping[str, str] = field(default_factory=dict)


def write_build(build: Build) -> None:
    """Complete a folder that already holds the product and the model: write sources, weights and, last, the index."""
    folder, artifact = build.folder, build.artifact
    for name, text in artifact.sources.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    for name, content in artifact.models.items():
        (folder / name).write_bytes(content)
    if artifact.weights:
        write_npz(folder / WEIGHTS, artifact.weights)
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != INDEX)
    index = {
        "format": FORMAT,
        **{key: getattr(build, key) for key in ("kind", "product", "processor", "model")},
        **{key: dict(getattr(build, key)) for key in ("options", "external")},
        "target": build.target,
        "artifact": {
            **{key: getattr(artifact, key) for key in ("symbol", "backend", "iterations", "batch", "early_stop")},
            **{key: asdict(getattr(artifact, key)) for key in ("target", "memory")},
            "cost": None if artifact.cost is None else asdict(artifact.cost),
            **{key: [asdict(port) for port in getattr(artifact, key)] for key in ("inputs", "outputs")},
            "sources": sorted(artifact.sources),
            "models": sorted(artifact.models),
            "notes": dict(artifact.notes),
        },
        "files": {name: digest(folder / name) for name in files},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1, default=_plain) + "\n", encoding="utf-8")


def read_build(folder: Path, *, check: bool = True) -> Build:
    """Read a build folder. `check` compares every file with its SHA-256, else only the product.

    Raises ModelError for a missing, truncated or changed file and for a format this version does not know.
    """
    index_file = folder / INDEX
    try:
        index = json.loads(index_file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            str(folder),
            f"no {INDEX} in it" if folder.is_dir() else "no such folder",
            "a folder written by solver.save",
            "Check the path, or compile the model again.",
        ) from None
    except (ValueError, RecursionError) as error:
        raise damaged(index_file, str(error)) from None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        found = index.get("format") if isinstance(index, dict) else type(index).__name__
        raise ModelError(
            str(index_file),
            f"format {found!r}",
            f"format {FORMAT}",
            "Save the solver again with this version of unfoldc.",
        )
    try:
        build = _restore(index, folder)
        files = dict(index["files"])
        for name in files if check else [build.product] if build.product else []:
            _check_file(folder, name, files[name])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise damaged(index_file, f"{type(error).__name__}: {error}") from None
    return build


def check_place(folder: Path) -> None:
    """Raise InputError where a build cannot be written to `folder`, because that holds something else."""
    if folder.exists() and not (folder / INDEX).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            str(folder),
            "it holds something else",
            "a new or empty folder, or an earlier build",
            "Choose another folder.",
        )


def copy_build(
    build: Build,
    folder: Path,
    other_texts: Mapping[str, str] | None = None,
    put: Callable[[Path, Path], object] | None = None,
    programs: Collection[str] = (),
) -> Path:
    """Copy a build to `folder` under its final name at the end, so that nothing half-written stays behind.

    `other_texts` replace sources of the same names. Of the programs for devices, those that `programs` names come with
    it. An earlier build there is replaced, or `put(new, folder)` does what is to be done; a folder that holds anything
    else is refused with InputError.
    """
    check_place(folder)
    with writing(folder), aside(folder.parent) as partial:
        try:
            shutil.copytree(build.folder, partial, dirs_exist_ok=True)
        except (shutil.Error, FileNotFoundError) as error:
            if build.folder.is_dir():
                raise
            raise InputError(
                str(folder), f"the compiled files are gone ({error})", "a solver whose cache entry still exists",
                "Compile or load the model again, then save.",
            ) from None  # fmt: skip
        drop_programs(partial, programs)
        if other_texts:
            replace_texts(partial, other_texts)
        (put or replace_folder)(partial, folder)
    return folder


def add_note(build: Build, name: str, value: Any) -> Build:
    """The build with one note more, in its index too."""
    file = build.folder / INDEX
    index = json.loads(file.read_text(encoding="utf-8"))
    index["artifact"]["notes"][name] = value
    file.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return replace(build, artifact=replace(build.artifact, notes={**build.artifact.notes, name: value}))


def replace_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write text files into a build, in place of those of the same names, and their digests into its index."""
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
        index["files"][name] = digest(folder / name)
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _restore(index: Mapping[str, Any], folder: Path) -> Build:
    found = index["artifact"]
    target, cost = found["target"], found["cost"]
    artifact = Artifact(
        symbol=found["symbol"],
        backend=found["backend"],
        iterations=int(found["iterations"]),
        target=TargetSpec(**{**target, "float_types": tuple(target["float_types"])}),
        inputs=_ports(found["inputs"]),
        outputs=_ports(found["outputs"]),
        sources=source_files(folder, found["sources"]),
        weights=_weights(folder, index["files"]),
        memory=MemoryPlan(**found["memory"]),
        cost=None if cost is None else _cost(cost),
        batch=found["batch"],
        early_stop=found["early_stop"],
        notes=found["notes"],
        models=model_files(folder, found.get("models", [])),
    )
    facts = {key: index[key] for key in ("target", "kind", "product", "processor", "model", "options", "external")}
    return Build(artifact=artifact, folder=folder, **facts)


def _weights(folder: Path, files: Mapping[str, str]) -> Mapping[str, np.ndarray]:
    name = next((n for n in (WEIGHTS, f"{ASIDE}/{WEIGHTS}") if n in files), None)
    return {} if name is None else Weights(folder / name)


def _cost(found: Mapping[str, Any]) -> Cost:
    return Cost(found["begin_flops"], tuple(found["iterate_flops"]), found["end_flops"], tuple(found["iterate_bytes"]))


def _ports(items: list[dict[str, Any]]) -> tuple[Port, ...]:
    return tuple(Port(p["name"], p["dtype"], tuple(p["shape"]), p["batched"]) for p in items)


def _check_file(folder: Path, name: str, expected: str) -> None:
    path = there(inside(folder, name))
    if digest(path) != expected:
        raise damaged(path, "its content is not what was saved")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, tuple | set | frozenset):
        return sorted(value)
    if isinstance(value, Path):
        return value.name
    raise TypeError(f"cannot be saved: {type(value).__name__}")
