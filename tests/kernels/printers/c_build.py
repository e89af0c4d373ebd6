"""Many loop programs in one shared library: what the tests of back end `c` build with, one compiler call per variant."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from unfoldc.kernels.artifact import Artifact, Cost, MemoryPlan, Port
from unfoldc.kernels.loops import Buffer, Expr, For, Load, LoopProgram, Step, Stmt, Store, Var
from unfoldc.kernels.printers.c import c_sources
from unfoldc.kernels.schedule import schedule
from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.runtime.engine_library import LibraryEngine
from unfoldc.targets.toolchains import C99, FAST_MATH, OPTIMISE, SANITIZE, STRICT, run_compiler

HOST = TargetSpec("host", 64, 256, 8, batch_lanes=8)
M4 = TargetSpec("cortex-m4", 32, 0, 4, float_types=("float32",))
LANES = HOST.batch_lanes
_SHARED = ("-std=c99", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wpedantic", *STRICT)
VARIANTS: dict[str, tuple[str, ...]] = {
    "O3": (*OPTIMISE, *FAST_MATH, "-mcpu=native"),
    "O0": ("-O0", *FAST_MATH, "-mcpu=native"),
    "sanitized": (*OPTIMISE, *FAST_MATH, *SANITIZE, "-mcpu=native"),
}
if shutil.which("gcc"):
    VARIANTS["gcc"] = ("-O3", *FAST_MATH, "-march=native")


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


programs = load(Path(__file__).with_name("loop_programs.py"))


@dataclass(frozen=True)
class Case:
    """A program with the arrays of one problem. `shared` inputs are the same for all problems of a batch."""

    program: LoopProgram
    inputs: Mapping[str, np.ndarray]
    shared: frozenset[str] = frozenset()
    tolerance: float = 1e-5
    spec: TargetSpec = HOST
    freestanding: bool = False
    scheduled: LoopProgram = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scheduled", schedule(self.program, self.spec))

    def ports(self, names: Sequence[str]) -> tuple[Port, ...]:
        buffers = [self.program.buffers[name] for name in names]
        return tuple(Port(b.name, b.dtype, b.shape, b.name not in self.shared) for b in buffers)

    def sources(self, symbol: str) -> tuple[dict[str, str], str]:
        inputs, outputs = self.ports(self.program.inputs), self.ports(self.program.outputs)
        wide = schedule(self.program, self.spec, LANES)
        sources, reason = c_sources(symbol, self.scheduled, inputs, outputs, host=True, lanes=wide, lane_count=LANES)
        if self.freestanding:  # only the driver takes the C library for granted
            own = c_sources(symbol, self.scheduled, inputs, outputs, host=False)[0]
            sources |= {f"{symbol}.c": own[f"{symbol}.c"]}
        return sources, reason

    def artifact(self, symbol: str, host: bool = True) -> Artifact:
        inputs, outputs = self.ports(self.program.inputs), self.ports(self.program.outputs)
        sources = self.sources(symbol)[0] if host else c_sources(symbol, self.scheduled, inputs, outputs, host=False)[0]
        plan, cost = MemoryPlan(0, 0, 0), Cost(0, (), 0, ())
        return Artifact(
            symbol,
            "c",
            self.spec,
            self.program.iterations,
            inputs,
            outputs,
            sources,
            self.program.constants,
            plan,
            cost,
        )


class Library:
    """A shared library with all cases, by name."""

    def __init__(self, cases: Mapping[str, Case], variant: str, folder: Path) -> None:
        self.cases = cases
        names = []
        for symbol, case in cases.items():
            sources = case.sources(symbol)[0]
            for name, text in sources.items():
                (folder / name).write_text(text)
            # One translation unit for each program: the compiler starts that much less often.
            unit = "".join(f'#include "{name}"\n' for name in sources if name.endswith(".c"))
            (folder / f"{symbol}_unit.c").write_text(unit)
            names.append(f"{symbol}_unit.c")
        self.path = folder / f"{variant}.so"
        arguments = [*_SHARED, *VARIANTS[variant], *names, "-lm", "-o", str(self.path)]
        if variant == "gcc":
            subprocess.run(["gcc", *arguments], cwd=folder, check=True)
        else:
            run_compiler(arguments, folder, f"test library {variant}")
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
    loops = (For("i", n, tuple(body)),)
    return LoopProgram(
        buffers, {}, tuple(inputs), tuple(results), (), (Step(0, 1, loops),), (For("i", n, tuple(copies)),)
    )
