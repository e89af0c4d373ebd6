"""Writing a file so that nobody ever sees half of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

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
        if model.ByteSize() > ONE_FILE_BYTES:
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
