"""The programs of `c_build` through TVM, all in one shared library: one run of TVM, one of the C compiler."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unfoldc.kernels.artifact import Artifact
from unfoldc.kernels.printers.tvm import tvm_sources
from unfoldc.kernels.schedule import schedule
from unfoldc.runtime.engine_library import LibraryEngine
from unfoldc.targets.toolchains import FAST_MATH, OPTIMISE, STRICT, run_compiler
from unfoldc.targets.tvm_build import compile_modules


def _load(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


c_build = _load("c_build")
_HEAD = "@I.ir_module\nclass Module:\n\n"


def sources(case: Any, symbol: str) -> tuple[dict[str, str], str]:
    """The files of a case, and why there is no form for several problems."""
    lanes = schedule(case.program, case.spec, case.lanes)
    inputs, outputs = case.ports(case.program.inputs), case.ports(case.program.outputs)
    bits = 512 if _has_estimates() else 256
    return tvm_sources(
        symbol, case.scheduled, inputs, outputs, host=True, lanes=lanes, lane_count=case.lanes, vector_bits=bits
    )


def _has_estimates() -> bool:
    from unfoldc.targets import find_target

    return find_target("host").spec.vector_bits == 512


class Library:
    """A shared library with all cases, by name."""

    def __init__(self, cases: Mapping[str, Any], folder: Path) -> None:
        self.cases = cases
        self.path = folder / "tvm.so"
        self.made = {name: sources(case, name) for name, case in cases.items()}
        if not self.path.exists():
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                self._build(Path(temporary))
        self._engines: dict[str, LibraryEngine] = {}

    def _build(self, folder: Path) -> None:
        scripts, units = [], []
        for name, (files, _) in self.made.items():
            scripts.append(files[f"{name}.tir"].removeprefix(_HEAD))
            for file, text in files.items():
                (folder / file).write_text(text)
            (folder / f"{name}_unit.c").write_text("".join(f'#include "{f}"\n' for f in files if f.endswith(".c")))
            units.append(f"{name}_unit.c")
        objects = []
        for i, module in enumerate(compile_modules(_HEAD + "\n\n".join(scripts), None)):
            module.write_to_file(str(folder / f"tir_{i}.o"))
            objects.append(f"tir_{i}.o")
        flags = ["-std=c99", "-Wall", "-Wextra", *STRICT, *OPTIMISE, *FAST_MATH, "-mcpu=native"]
        arguments = [*flags, "-shared", "-fPIC", *units, *objects, "-lm", "-o", "tvm.so"]
        run_compiler(arguments, folder, "test library tvm")
        os.replace(folder / "tvm.so", self.path)

    def solve(self, name: str, inputs: Mapping[str, np.ndarray], batch: int, iterations: int) -> dict[str, np.ndarray]:
        """Inputs with the batch axis in front, but for shared ones."""
        case = self.cases[name]
        if name not in self._engines:
            artifact: Artifact = case.artifact(name)
            self._engines[name] = LibraryEngine(artifact, self.path)
        buffers = [case.program.buffers[o] for o in case.program.outputs]
        outputs = {b.name: np.full((batch, *b.shape), 77, b.dtype) for b in buffers}
        given = [inputs[i] for i in case.program.inputs]
        self._engines[name].solve(given, list(outputs.values()), batch, iterations)
        return outputs
