"""Generated programs to compile: one for each case of each ONNX operator, and small whole solvers."""

from __future__ import annotations

import importlib.util
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from operator_cases import CASES, OperatorCase

from unfoldc.errors import UnfoldcError
from unfoldc.kernels.artifact import Artifact
from unfoldc.kernels.pipeline import build_artifact, load_program, optimise
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.program import Program
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.targets import find_target

OPERATORS = sorted({case.operator for case in CASES})
TESTS = Path(__file__).parents[1]
METAL = "cortex-m4"


@dataclass(frozen=True)
class Generated:
    """A program in C with one problem: `inputs` in the order of its ports, `wanted` from the reference in float64."""

    artifact: Artifact
    inputs: tuple[np.ndarray, ...]
    wanted: tuple[np.ndarray, ...]

    @property
    def symbol(self) -> str:
        return self.artifact.symbol

    @property
    def solver_files(self) -> list[str]:
        """The C files of the solver itself, without what the host adds."""
        return [f"{self.symbol}.c", f"{self.symbol}_weights.c"]

    def write(self, folder: Path) -> None:
        for name, text in self.artifact.sources.items():
            (folder / name).write_text(text)


def load(path: str, name: str) -> Any:
    """A module of the tests that is no part of a package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, TESTS / path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def operator_programs(target: str, everything: bool = False) -> Iterator[tuple[str, Generated]]:
    """Operator and program in float32 and, on the host, in float64, for the first case of each operator or for all.

    What is carried out when importing leaves a program that copies.
    """
    done: set[str] = set()
    for number, case in enumerate(CASES):
        if not everything and case.operator in done:
            continue
        kinds = {"f32": case}
        if target == "host" and any(a.dtype == np.float32 for a in (*case.inputs.values(), *case.constants.values())):
            kinds["f64"] = _in_float64(case)
        for kind, variant in kinds.items():
            symbol = f"{re.sub('[^a-z0-9]', '', case.operator.lower())}_{number}_{kind}"
            made = _operator_program(variant, symbol, target)
            if made is not None:
                done.add(case.operator)
                yield case.operator, made


@cache
def solver_names() -> list[str]:
    return sorted(_models().MAKERS)


def solver_program(name: str, target: str = "host", iterations: int = 4) -> Generated:
    """A whole solver of `tests/kernels`, with inputs for one problem; the name is the prefix of its functions."""
    model = _models().make(name, iterations)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "solver.onnx"
        onnx.save(model, path)
        imported, program = load_program(path)
    artifact = build_artifact(imported, program, find_target(target).spec, "c", name, target == "host")
    inputs = _models().single(_models().feeds(model, 1), imported, 0)
    return _generated(artifact, program, inputs)


def _models() -> Any:
    return load("kernels/conftest.py", "kernels_conftest")


def _operator_program(case: OperatorCase, symbol: str, target: str) -> Generated | None:
    model_of = load("kernels/operators/test_table.py", "operators_test_table").model_of
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.onnx"
        try:
            onnx.save(model_of(case), path)
            imported = import_onnx(path)
        except UnfoldcError:
            return None  # not defined for float64
    spec = find_target(target).spec
    if any(port.dtype not in ("float32", "int32", "int64", "bool", "float64") for port in imported.inputs):
        return None
    if target != "host" and any(t.dtype == "float64" for t in imported.program.types.values()):
        return None
    program = optimise(imported.program)
    artifact = build_artifact(imported, program, spec, "c", symbol, target == "host")
    return _generated(artifact, program, {f"x{i}": v for i, v in case.inputs.items()})


def _generated(artifact: Artifact, program: Program, inputs: Mapping[str, np.ndarray]) -> Generated:
    with np.errstate(all="ignore"):
        wanted = tuple(np.asarray(w) for w in evaluate(program, dict(inputs), dtype="float64"))
    return Generated(artifact, tuple(np.ascontiguousarray(inputs[p]) for p in program.inputs), wanted)


def _in_float64(case: OperatorCase) -> OperatorCase:
    def wide(a: Any) -> Any:
        return a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a

    return replace(
        case,
        inputs={i: wide(a) for i, a in case.inputs.items()},
        constants={i: wide(a) for i, a in case.constants.items()},
        attributes={name: wide(a) for name, a in case.attributes.items()},
    )


def write_units(programs: Sequence[Generated], folder: Path, most: int = 60) -> list[str]:
    """Writes the programs, and files that include the solvers of several: a compiler starts less often."""
    for program in programs:
        program.write(folder)
    units = []
    for start in range(0, len(programs), most):
        units.append(f"unit_{start}.c")
        files = [name for program in programs[start : start + most] for name in program.solver_files]
        (folder / units[-1]).write_text("".join(f'#include "{name}"\n' for name in files))
    return units
