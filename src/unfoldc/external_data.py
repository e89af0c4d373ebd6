"""Weights that a model keeps in files of their own beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from unfoldc.runtime.stored_files import digest


def external_digests(path: Path, model: bytes) -> dict[str, str]:
    """Digests by name of the external data that lie where they should; the importer complains of the others."""
    if b"location" not in model:  # so most models are found in the cache without onnx
        return {}
    root = path.parent.resolve()
    places = {name: (root / name).resolve() for name in external_names(path)}
    return {n: digest(p) for n, p in places.items() if p.is_relative_to(root) and p.is_file()}


def external_names(path: Path) -> list[str]:
    """The names that the model gives its external data; they may be anything."""
    import onnx
    from google.protobuf.message import DecodeError

    from unfoldc.kernels.reading.onnx_file import external_files

    try:
        return external_files(onnx.load(path, load_external_data=False))
    except (DecodeError, ValueError, OSError):
        return []  # not a model: the importer says so


def copy_external(names: Sequence[str], root: Path, folder: Path) -> dict[str, str]:
    """Copy the model's external data, which the importer found to lie beside the model; their digests by name."""
    places = {name: folder / os.path.normpath(name) for name in names}  # a name may pass through a missing folder
    for name, place in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile((root / name).resolve(), place)
    return {name: digest(place) for name, place in places.items()}
