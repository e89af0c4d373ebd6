"""Writing a file so that nobody ever sees half of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from unfoldc.errors import InputError

# protobuf cannot hold more in one message; what is larger keeps its weights in a second file.
ONE_FILE_BYTES = 2**31 - 2**20


@contextmanager
def written_aside(model: onnx.ModelProto, target: Path) -> Iterator[Path]:
    """Write the model next to its target and give the path; move it there when the block ends without an error.

    Weights go to `<target>.data` if the whole exceeds 2 GB. Whatever happens, nothing else is left in the folder.
    """
    folder = Path(tempfile.mkdtemp(prefix=".unfoldc-", dir=target.parent))
    try:
        aside = folder / target.name
        data = f"{target.name}.data"
        if sum(tensor.ByteSize() for tensor in model.graph.initializer) > ONE_FILE_BYTES:
            onnx.save(model, aside, save_as_external_data=True, location=data, size_threshold=1024)
        else:
            aside.write_bytes(model.SerializeToString(deterministic=True))
        yield aside
        written = {aside: target, folder / data: target.with_name(data)}
        for source, final in reversed(written.items()):
            if source.exists():
                os.replace(source, final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_target(path: str | Path) -> Path:
    """Where to write.

    Raises:
        InputError: the folder does not exist, or the path is a folder.
    """
    target = Path(path)
    if target.is_dir() or not target.parent.is_dir():
        raise InputError(
            str(target),
            "a folder" if target.is_dir() else f"no folder {target.parent}",
            "the name of a file in a folder that exists",
            "Create the folder, or choose another path.",
        )
    return target
