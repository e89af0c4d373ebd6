"""Lowering: any program gives loops that compute the same, in as few buffers as the rules allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import LoopProgram, Nest
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.remove_dead import remove_dead
from unfoldc.kernels.pipeline import optimise
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.program import Node, Origin, Program, Segment, State, TensorType
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.kernels.schedule import schedule
from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.kernels.verify import verify_loops, verify_program

SIZE = 4
SPECS = [TargetSpec("vectors", 64, 128, 3), TargetSpec("scalars", 32, 0, 2)]


class _Maker:
    """A random rolled program over square matrices: states that swap, wait, stand still, or take what begin made."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.types: dict[str, TensorType] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.count = 0

    def constant(self, *shape: int, stacked: int = 0) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = self.rng.standard_normal((stacked, *shape) if stacked else shape).astype(np.float32) / 2
        self.types[name] = TensorType("float32", shape)
        return name

    def nodes(self, known: list[str], stacked: list[str], n: int) -> list[Node]:
        made: list[Node] = []
        for _ in range(n):
            there = [*known, *stacked, *self.full(made)[-4:]]
            operator = str(self.rng.choice(["Add", "Mul", "MatMul", "Transpose", "Tanh", "Concat", "ReduceSum"]))
            arity = 2 if operator in ("Add", "Mul", "MatMul") else 1
            inputs = tuple(str(self.rng.choice(there)) for _ in range(arity))
            attributes: dict[str, Any] = {}
            shape: tuple[int, ...] = (SIZE, SIZE)
            if operator == "Concat":
                attributes, inputs = {"axis": 0}, (self.half(made, inputs[0]), self.half(made, inputs[0]))
            elif operator == "ReduceSum":
                axis = int(self.rng.integers(2))
                inputs = (inputs[0], self.axes(axis))
                shape = tuple(1 if a == axis else SIZE for a in range(2))
                row = self.node(made, operator, inputs, shape, {"keepdims": 1})
                operator, inputs, shape, attributes = "Add", (row, str(self.rng.choice(known))), (SIZE, SIZE), {}
            self.node(made, operator, inputs, shape, attributes)
        return made

    def full(self, nodes: Sequence[Node]) -> list[str]:
        """Results that are whole matrices."""
        return [n.outputs[0] for n in nodes if self.types[n.outputs[0]].size == SIZE**2]

    def node(self, made: list[Node], operator: str, inputs: tuple[str, ...], shape: Any, attributes: Any) -> str:
        name = f"v{self.count}"
        self.count += 1
        self.types[name] = TensorType("float32", shape)
        made.append(Node(operator, inputs, (name,), attributes, Origin(name, operator)))
        return name

    def half(self, made: list[Node], name: str) -> str:
        start = int(self.rng.integers(3))
        part = {"axes": [0], "sizes": [SIZE // 2], "strides": [1]}
        return self.node(made, "Window", (name, self.integers([start])), (SIZE // 2, SIZE), part)

    def axes(self, axis: int) -> str:
        return self.integers([axis])

    def integers(self, values: list[int]) -> str:
        name = f"i{values}"
        self.constants[name] = np.array(values)
        self.types[name] = TensorType("int64", (len(values),))
        return name

    def program(self) -> Program:
        pick = lambda names: str(self.rng.choice(names))  # noqa: E731
        self.types["y"] = self.types["h"] = TensorType("float32", (SIZE, SIZE))
        known = ["y", "h", self.constant(SIZE, SIZE), self.constant(1, SIZE), self.constant()]
        begin = self.nodes(known[:3], [], 4)
        outside = [*known[:3], *self.full(begin)]
        states = tuple(State(f"s{i}", pick(outside)) for i in range(3))
        self.types.update({s.name: TensorType("float32", (SIZE, SIZE)) for s in states})
        segments = []
        for first, count in ((0, 1), (1, 3)):
            stacked = [self.constant(SIZE, SIZE, stacked=count)]
            own = [s.name for s in states]
            nodes = self.nodes([*outside, *own, *own], stacked, 7)
            full = self.full(nodes)
            carried = {s: pick([*own, *full, *full, *outside]) for s in own if self.rng.random() < 0.9}
            segments.append(Segment(first, count, tuple(nodes), carried, frozenset(stacked)))
        names = [s.name for s in states]
        end = self.nodes([*outside, *names], [], 3)
        outputs = (end[-1].outputs[0], pick(names), pick([*names, *outside]))
        return Program(
            ("y", "h"),
            outputs,
            self.types,
            self.constants,
            tuple(begin),
            tuple(segments),
            tuple(end),
            states,
            rolled=True,
        )


@pytest.mark.parametrize("seed", range(120))
def test_random_programs(seed: int, workshop: Any) -> None:
    program = remove_dead(_Maker(seed).program())
    verify_program(program)
    inputs = {name: workshop.random(f"{name}{seed}", SIZE, SIZE).astype(np.float32) for name in program.inputs}
    loops = lower(program)
    for form in (loops, schedule(loops, SPECS[seed % 2])):
        verify_loops(form)
        for k in (1, 4):
            found = run(form, dict(zip(form.inputs, (inputs[n] for n in program.inputs), strict=True)), k)
            workshop.close([found[o] for o in form.outputs], evaluate(program, inputs, iterations=k), 1e-4)


def _loops(workshop: Any, name: str, K: int = 4) -> LoopProgram:
    return lower(optimise(import_onnx(workshop.saved(name, K)).program))


def _spaces(loops: LoopProgram, space: str) -> list[tuple[int, ...]]:
    return sorted(b.shape for b in loops.buffers.values() if b.space == space)


def test_an_ista_iteration_needs_one_scratch_vector(workshop: Any) -> None:
    """The product reads all of x, so x cannot be overwritten at once; W1 y is made in begin and kept."""
    loops = _loops(workshop, "ista_tied")
    assert _spaces(loops, "state") == [(1, 6), (1, 6)]
    assert _spaces(loops, "scratch") == [(1, 6)]
    assert len(loops.steps) == 1 and loops.iterations == 4


def test_only_what_outlives_begin_takes_state(workshop: Any) -> None:
    g = workshop.Graph()
    y = g.input("y", "batch", 4)
    h = g("Tanh", g("MatMul", y, g.weight("A", workshop.random("A", 4, 9))))
    x = g("MatMul", h, g.weight("B", workshop.random("B", 9, 6)))
    for g.k in range(3):
        x = g("Tanh", g("MatMul", x, g.weight("C", workshop.random("C", 6, 6))))
    loops = lower(optimise(workshop.imported(g.model(x)).program))
    assert _spaces(loops, "state") == [(1, 6)]
    assert _spaces(loops, "scratch") == [(1, 6), (1, 9)]


def test_equal_elements_take_no_memory(workshop: Any) -> None:
    loops = _loops(workshop, "wide")
    assert sorted(v.shape for v in loops.constants.values()) == [(4,), (4, 19)]  # thresholds and A, not x0 nor the step


def test_nests_lead_back_to_the_file(workshop: Any) -> None:
    loops = _loops(workshop, "ista_tied")
    origins = [o for s in loops.steps[0].body if isinstance(s, Nest) for o in s.origins]
    assert any(o.startswith("iteration.0/MatMul_") and o.endswith("(MatMul)") for o in origins)


def test_buffer_names_are_identifiers(workshop: Any) -> None:
    assert all(name.isidentifier() for name in _loops(workshop, "compiler_names").buffers)
