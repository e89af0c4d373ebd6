"""The files of a build folder, each read when it is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from unfoldc.errors import ModelError
from unfoldc.runtime.npz import read_npz

T = TypeVar("T")


class Files(Mapping[str, T]):
    """Files of a folder by name: the texts or the bytes that `read` finds in them."""

    def __init__(self, folder: Path, names: Sequence[str], read: Callable[[Path], T]) -> None:
        self._paths = {name: inside(folder, name) for name in names}
        self._read = read

    def __getitem__(self, name: str) -> T:
        return self._read(there(self._paths[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def source_files(folder: Path, names: Sequence[str]) -> Files[str]:
    """The source files of a build."""
    return Files(folder, names, partial(Path.read_text, encoding="utf-8"))


def model_files(folder: Path, names: Sequence[str]) -> Files[bytes]:
    """The ONNX models of a build."""
    return Files(folder, names, Path.read_bytes)


class Weights(Mapping[str, np.ndarray]):
    """The arrays of a `weights.npz`, read when the first one is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._arrays: dict[str, np.ndarray] | None = None

    def _read(self) -> dict[str, np.ndarray]:
        if self._arrays is None:
            try:
                self._arrays = read_npz(self._path)
            except (OSError, ValueError) as error:
                raise damaged(self._path, str(error)) from None
        return self._arrays

    def __getitem__(self, name: str) -> np.ndarray:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(folder: Path, name: str) -> Path:
    """The path of a file of a build; raises ValueError for a name that leads out of the folder."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"file name {name!r} leaves the folder")
    return folder / relative


def there(path: Path) -> Path:
    """The path of a file that has to be there; raises ModelError where it is not."""
    if not path.is_file():
        raise ModelError(
            str(path),
            "the file is missing",
            "a complete build folder",
            "Copy the folder again, or compile the model again.",
        )
    return path


def damaged(path: Path, reason: str) -> ModelError:
    """The error for a file that is not what was written."""
    return ModelError(
        str(path),
        f"the file is damaged ({reason})",
        "a file as solver.save wrote it",
        "Copy the folder again, or compile the model again.",
    )
