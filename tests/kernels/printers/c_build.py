"""Many loop programs in one shared library: what back end `c` is tested with, one compiler call each."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from unfoldc.kernels.artifact import Artifact, Cost, MemoryPlan, Port
from unfoldc.kernels.loops import Buffer, Expr, For, Load, LoopProgram, Step, Stmt, Store, Var
from unfoldc.kernels.printers.c import c_sources
from unfoldc.kernels.printers.c_api import host_driver_text
from unfoldc.kernels.schedule import schedule
from unfoldc.kernels.sweeps import in_sweeps
from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.runtime.engine_library import LibraryEngine
from unfoldc.targets.toolchains import FAST_MATH, OPTIMISE, SANITIZE, STRICT, run_compiler

HOST = TargetSpec("host", 64, 256, 8, batch_lanes=8)
M4 = TargetSpec("cortex-m4", 32, 0, 4, float_types=("float32",))
LANES = HOST.batch_lanes
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", *STRICT)
# Optimisation levels go through -Xclang: zig builds its run-time library anew for each level that it knows of.
VARIANTS: dict[str, tuple[str, ...]] = {
    "O3": (*OPTIMISE, *FAST_MATH, "-mcpu=native"),
    "O0": (*OPTIMISE, *FAST_MATH, "-mcpu=native", "-Xclang", "-O0"),
    "sanitized": (*OPTIMISE, *FAST_MATH, "-mcpu=native", *SANITIZE, "-Xclang", "-O1"),
}
if shutil.which("gcc"):
    VARIANTS["gcc"] = ("-O3", *FAST_MATH, "-march=native")


def load(name: str) -> Any:
    """A module of this folder, which is no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


programs = load("loop_programs")


@dataclass(frozen=True)
class Case:
    """A program with the arrays of one problem. `shared` inputs are the same for all problems of a batch.

    `vectors` makes neighbouring results of one problem the elements of vectors.
    """

    program: LoopProgram
    inputs: Mapping[str, np.ndarray]
    shared: frozenset[str] = frozenset()
    tolerance: float = 1e-5
    spec: TargetSpec = HOST
    lanes: int = LANES
    freestanding: bool = False
    vectors: bool = False
    scheduled: LoopProgram = field(init=False)

    def __post_init__(self) -> None:
        swept = in_sweeps(self.program, self.spec, vectors=True) if self.vectors else self.program
        one = schedule(swept, self.spec, vectors=self.vectors)
        whole = {n: b for n, b in self.program.buffers.items() if b.space == "constant"}
        constants = {**self.program.constants, **one.constants}
        object.__setattr__(self, "scheduled", replace(one, buffers={**whole, **one.buffers}, constants=constants))

    def ports(self, names: Sequence[str]) -> tuple[Port, ...]:
        buffers = [self.program.buffers[name] for name in names]
        return tuple(Port(b.name, b.dtype, b.shape, b.name not in self.shared) for b in buffers)

    def sources(self, symbol: str) -> tuple[dict[str, str], str]:
        """The files, and why there is no form for several problems."""
        lanes = None if self.freestanding else schedule(self.program, self.spec, self.lanes)
        inputs, outputs = self.ports(self.program.inputs), self.ports(self.program.outputs)
        host = not self.freestanding
        return c_sources(symbol, self.scheduled, inputs, outputs, host=host, lanes=lanes, lane_count=self.lanes)

    def artifact(self, symbol: str) -> Artifact:
        return Artifact(
            symbol=symbol,
            backend="c",
            target=self.spec,
            iterations=self.program.iterations,
            inputs=self.ports(self.program.inputs),
            outputs=self.ports(self.program.outputs),
            sources=self.sources(symbol)[0],
            weights=self.program.constants,
            memory=MemoryPlan(0, 0, 0),
            cost=Cost(0, (), 0, ()),
        )

    def write(self, symbol: str, folder: Path) -> str:
        """Writes the files, and one that includes them, so that the compiler starts less often; returns its name."""
        sources = self.sources(symbol)[0]
        if self.freestanding:
            inputs, outputs = self.ports(self.program.inputs), self.ports(self.program.outputs)
            sources[f"{symbol}_host.c"] = host_driver_text(symbol, self.scheduled, inputs, outputs)
        lines = [f'#include "{name}"' for name in sources if name.endswith(".c")]
        lines += [f"long {symbol}_size(void);", f"long {symbol}_size(void) {{ return (long)sizeof({symbol}_state); }}"]
        for name, text in (sources | {f"{symbol}_unit.c": "\n".join([*lines, ""])}).items():
            (folder / name).write_text(text)
        return f"{symbol}_unit.c"


class Library:
    """A shared library with all cases, by name; built once, also where several processes run the tests."""

    def __init__(self, cases: Mapping[str, Case], variant: str, folder: Path) -> None:
        self.cases = cases
        self.path = folder / f"{variant}.so"
        if not self.path.exists():
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                units = [case.write(symbol, Path(temporary)) for symbol, case in cases.items()]
                arguments = [*WARNINGS, *VARIANTS[variant], "-shared", "-fPIC", *units, "-lm", "-o", self.path.name]
                if variant == "gcc":
                    subprocess.run(["gcc", *arguments], cwd=temporary, check=True)
                else:
                    run_compiler(arguments, Path(temporary), f"test library {variant}")
                os.replace(Path(temporary) / self.path.name, self.path)
        self._engines: dict[str, LibraryEngine] = {}

    def engine(self, name: str) -> LibraryEngine:
        if name not in self._engines:
            self._engines[name] = LibraryEngine(self.cases[name].artifact(name), self.path)
        return self._engines[name]

    def solve(self, name: str, inputs: Mapping[str, np.ndarray], batch: int, iterations: int) -> dict[str, np.ndarray]:
        """Inputs with the batch axis in front, but for shared ones."""
        program = self.cases[name].program
        outputs = self.empty(name, batch)
        self.engine(name).solve([inputs[i] for i in program.inputs], list(outputs.values()), batch, iterations)
        return outputs

    def empty(self, name: str, batch: int) -> dict[str, np.ndarray]:
        """Outputs full of what no solver writes."""
        program = self.cases[name].program
        buffers = [program.buffers[o] for o in program.outputs]
        return {b.name: np.full((batch, *b.shape), 77, b.dtype) for b in buffers}


def elementwise(inputs: Mapping[str, np.ndarray], results: Mapping[str, Callable[..., Expr]]) -> LoopProgram:
    """Each result is a function of the inputs' elements, worked out in the one iteration."""
    n = max(value.size for value in inputs.values())
    buffers = {name: Buffer(name, value.dtype.name, (n,), "input") for name, value in inputs.items()}
    body: list[Stmt] = []
    copies: list[Stmt] = []
    for name, result in results.items():
        value = result(**{i: Load(i, (Var("i"),), v.dtype.name) for i, v in inputs.items()})
        for own, space in ((f"own_{name}", "state"), (name, "output")):
            buffers[own] = Buffer(own, value.dtype, (n,), space)
        body.append(Store(f"own_{name}", (Var("i"),), value))
        copies.append(Store(name, (Var("i"),), Load(f"own_{name}", (Var("i"),), value.dtype)))
    loop, copy = (For("i", n, tuple(statements)) for statements in (body, copies))
    return LoopProgram(buffers, {}, tuple(inputs), tuple(results), (), (Step(0, 1, (loop,)),), (copy,))
