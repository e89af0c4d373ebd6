"""Compiles printed kernels to PTX, which takes no device."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

import pytest

_THERE = all(importlib.util.find_spec(name) is not None for name in ("numba_cuda", "cuda.bindings", "nvidia"))
needs_nvvm = pytest.mark.skipif(
    not _THERE and not os.environ.get("UNFOLDC_CI"), reason="numba-cuda is not installed: pip install unfoldc[cuda]"
)

_CODE = """
import json, sys
from numba import cuda, types
sources, names = json.load(sys.stdin)
namespace = {}
with open("kernels.py", "w") as file:
    file.write(sources["solver.py"])
exec(compile(sources["solver.py"], "kernels.py", "exec"), namespace)
def kind(text):
    return types.CPointer(getattr(types, text[:-1])) if text.endswith("*") else getattr(types, text)
signature = tuple(kind(row[1]) for row in json.loads(sources["solver_launch.json"])["parameters"])
texts = []
for name in names:
    text, _ = cuda.compile(namespace[name], signature, cc=(9, 0), device=False, output="ptx", abi="numba")
    texts.append(text)
json.dump(texts, sys.stdout)
"""


def ptx(sources: Mapping[str, str], kernels: Sequence[str]) -> list[str]:
    """The PTX of some kernels of the module `solver`, for sm_90; in a process that is not the simulator's."""
    import tempfile

    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _CODE],
            input=json.dumps([dict(sources), list(kernels)]),
            capture_output=True, text=True, timeout=120, env=environment, cwd=folder,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    texts: list[str] = json.loads(done.stdout)
    return texts
