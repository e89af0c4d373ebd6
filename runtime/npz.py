"""NumPy's archive format under any array name; nothing in a file is ever executed."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write what `numpy.load` reads; `numpy.savez` cannot store an array called "file". Equal arrays, equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays by name. Raises OSError for a file that cannot be read and ValueError for a damaged one."""
    with path.open("rb") as file:
        try:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it is a .npy file")
            return {name: archive[name] for name in archive.files}
        except (EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
            raise ValueError(str(error) or type(error).__name__) from None
