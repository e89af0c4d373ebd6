from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.artifact import Artifact, Cost, MemoryPlan, Port
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import (
    Assign,
    Buffer,
    Const,
    Expr,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Nest,
    Step,
    Stmt,
    Store,
    Var,
)
from unfoldc.kernels.printers.c.absorbed_nan import absorbed_nan
from unfoldc.kernels.printers.c.print_c import c_sources
from unfoldc.targets import find_target
from unfoldc.targets.emulator import Emulator
from unfoldc.targets.firmware import build_firmware

F = "float32"
X, A, B = (Local(name, F) for name in "xab")
LOW, HIGH = Const(-0.5, F), Const(0.5, F)
AT = Var("i")


def high(e: Expr) -> Expr:
    return build.binary("max", e, LOW)


def low(e: Expr) -> Expr:
    return build.binary("min", e, HIGH)


def store(name: str, value: Expr) -> Store:
    return Store(name, (AT,), value)


READ = Let("x", Load("in", (AT,), F))
CLIPPED = (READ, Let("a", high(X)), Let("b", low(A)))

# What a block does, and how many of its extrema may lose NaN.
BLOCKS: dict[str, tuple[tuple[Stmt, ...], int]] = {
    "in steps": ((*CLIPPED, store("y", build.sub(X, B))), 2),
    "at once": ((READ, store("y", build.sub(X, low(high(X))))), 2),
    "other way round": ((READ, Let("a", high(low(X))), store("y", build.add(A, X))), 2),
    "product": ((READ, Let("a", high(X)), store("y", build.mul(A, X))), 1),
    "twice": ((*CLIPPED, Let("d", build.sub(X, B)), store("y", Local("d", F)), store("z", build.sub(B, X))), 2),
    "deeper": ((*CLIPPED, Nest((), (Let("d", build.sub(X, B)), store("y", Local("d", F))))), 2),
    "stored": ((*CLIPPED, store("y", build.sub(X, B)), store("z", B)), 0),
    "a part stored": ((*CLIPPED, store("y", build.sub(X, B)), store("z", A)), 1),
    "another number": ((READ, Let("d", Load("other", (AT,), F)), *CLIPPED[1:], store("y", build.sub(Local("d", F), B))),
                       0),
    "quotient": ((READ, Let("a", high(X)), store("y", build.binary("div", X, A))), 0),
    "changed between": ((Let("x", Load("in", (AT,), F), True), *CLIPPED[1:],
                         Assign("x", Load("other", (AT,), F)), store("y", build.sub(X, B))), 0),
    "bounds that cross": ((READ, store("y", build.binary("min", build.binary("max", X, HIGH), LOW))), 0),
    "a bound that may be NaN": ((READ, Let("a", build.binary("max", X, Load("other", (AT,), F))),
                                 store("y", build.sub(X, A))), 0),
}  # fmt: skip


def marks(body: tuple[Stmt, ...]) -> int:
    found = absorbed_nan(body, lambda e: isinstance(e, Const))
    parts = [e for s in build.statements(found) if not isinstance(s, For | Nest) for e in build.expressions(s)]
    return sum(str(getattr(e, "operator", "")).endswith("_number") for top in parts for e in build.walk(top))


@pytest.mark.parametrize("name", BLOCKS)
def test_a_mark_where_the_number_itself_keeps_nan(name: str) -> None:
    body, wanted = BLOCKS[name]
    assert marks(body) == wanted


@pytest.mark.parametrize(
    "core", ["rv32imfc", *(pytest.param(c, marks=pytest.mark.slow) for c in ("rv64gc", "cortex-m4", "cortex-m33"))]
)
def test_nan_and_infinity_stay_on_every_processor(core: str, tmp_path: Path) -> None:
    numbers = np.array([np.nan, np.inf, -np.inf, 0.25, -0.25, 2, -2, 0], F)
    names = [f"r{i}_{name}" for i in range(len(BLOCKS)) for name in "yz"]
    shape = {name: (numbers.size,) for name in ("in", "other", *names)}
    space = dict.fromkeys(names, "output") | {"in": "input", "other": "input"}
    buffers = {n: Buffer(n, F, shape[n], space[n]) for n in shape}
    body: list[Stmt] = [Nest((), (For("i", numbers.size, (store(n, Const(0.0, F)),)),)) for n in names]
    for i, (block, _) in enumerate(BLOCKS.values()):
        renamed = tuple(_into(s, f"r{i}_") for s in block)
        body.append(Nest((), (For("i", numbers.size, renamed),)))
    program = LoopProgram(buffers, {}, ("in", "other"), tuple(names), (), (Step(0, 1, ()),), tuple(body))
    target = find_target(core)
    ports = {n: Port(n, F, shape[n], False) for n in shape}
    given, made = (ports["in"], ports["other"]), tuple(ports[n] for n in names)
    sources, _ = c_sources("solver", program, given, made, host=False, in_order=True)
    artifact = Artifact(
        "solver", "c", target.spec, 1, given, made, sources, {}, MemoryPlan(0, 0, 0), Cost(0, (), 0, ())
    )
    inputs = {"in": numbers, "other": numbers[::-1].copy()}
    emulator = Emulator(build_firmware(artifact, target, tmp_path, strict=True), artifact, target)
    wanted = run(program, inputs)
    for name, found in zip(names, emulator.solve(list(inputs.values())), strict=True):
        np.testing.assert_array_equal(found, wanted[name], err_msg=name)


def _into(s: Stmt, mark: str) -> Stmt:
    """The statement storing into outputs of its own."""
    if isinstance(s, Nest):
        return Nest((), tuple(_into(b, mark) for b in s.body))
    return store(mark + s.buffer, s.value) if isinstance(s, Store) else s
