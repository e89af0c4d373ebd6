"""Solvers whose weights all problems of a batch share, as ONNX files written node by node, with their answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

K = 4
Step = Callable[..., tuple[Any, ...]]


@dataclass
class Graph:
    """Nodes that compute with names as NumPy computes with arrays."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    part: str = "begin"
    dtype: str = "float32"

    def __call__(self, operator: str, *operands: Any) -> str:
        name = f"{self.part}/{operator}_{len(self.nodes)}"
        inputs = [x if isinstance(x, str) else self.constant(x) for x in operands]
        self.nodes.append(helper.make_node(operator, inputs, [f"v{len(self.nodes)}"], name=name))
        return self.nodes[-1].output[0]

    def by_rows(self, x: str, weights: np.ndarray) -> str:
        """x W^T, with W as it lies there."""
        made = helper.make_node("Transpose", [self.constant(weights)], [f"v{len(self.nodes)}"], perm=[1, 0])
        made.name = f"{self.part}/Transpose_{len(self.nodes)}"
        self.nodes.append(made)
        return self("MatMul", x, made.output[0])

    def total(self, x: str) -> str:
        """The sum over the last axis, which stays."""
        made = helper.make_node("ReduceSum", [x, "last"], [f"v{len(self.nodes)}"], keepdims=1)
        made.name = f"{self.part}/ReduceSum_{len(self.nodes)}"
        self.nodes.append(made)
        return str(made.output[0])

    def constant(self, value: Any) -> str:
        array = np.asarray(value, self.dtype)
        for name, known in self.constants.items():
            if known.shape == array.shape and (known == array).all():
                return name
        self.constants[f"c{len(self.constants)}"] = array
        return f"c{len(self.constants) - 1}"


class Plain:
    """The same operations in float64."""

    part = ""

    def __call__(self, operator: str, *operands: Any) -> Any:
        found: dict[str, Callable[..., Any]] = {
            "MatMul": np.matmul, "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum,
            "Min": np.minimum, "Div": np.divide, "Relu": lambda a: np.where(a < 0, 0, a),
        }  # fmt: skip
        with np.errstate(all="ignore"):
            return found[operator](*(np.asarray(x, np.float64) for x in operands))

    def total(self, x: Any) -> Any:
        return x.sum(axis=-1, keepdims=True)

    def by_rows(self, x: Any, weights: np.ndarray) -> Any:
        return x @ weights.T.astype(np.float64)


@dataclass(frozen=True)
class Solver:
    """`start(op, y)` gives the states, `step(op, k, y, *states)` the next ones; the first state is the answer."""

    name: str
    given: tuple[int, ...]
    made: tuple[int, ...]
    start: Step
    step: Step

    def save(self, folder: Path, dtype: str = "float32") -> Path:
        graph = Graph(dtype=dtype)
        states = self.start(graph, "y")
        for k in range(K):
            graph.part = f"iteration.{k}"
            states = self.step(graph, k, "y", *states)
        graph.part = "end"
        kind = TensorProto.FLOAT if dtype == "float32" else TensorProto.DOUBLE
        graph.nodes.append(helper.make_node("Identity", [states[0]], ["x"], name="end/Identity"))
        constants = {**graph.constants, "last": np.array([-1])}
        made = helper.make_graph(
            graph.nodes, self.name,
            [helper.make_tensor_value_info("y", kind, ["N", *self.given])],
            [helper.make_tensor_value_info("x", kind, ["N", *self.made])],
            [numpy_helper.from_array(v, n) for n, v in constants.items()],
        )  # fmt: skip
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model)
        file = folder / f"{self.name}-{dtype}.onnx"
        onnx.save(model, file)
        return file

    def answer(self, y: np.ndarray, iterations: int = K) -> np.ndarray:
        plain = Plain()
        states = self.start(plain, y.astype(np.float64))
        for k in range(iterations):
            states = self.step(plain, k, y, *states)
        return np.asarray(states[0])


def _random(*shape: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)


def _soft(op: Any, v: Any, t: float) -> Any:
    return op("Sub", v, op("Min", op("Max", v, np.float32(-t)), np.float32(t)))


def _lista(tied: bool) -> Solver:
    m, n = 6, 10
    inputs = [_random(m, n, seed=i * (not tied)) for i in range(K)]
    weights = [0.5 * _random(n, n, seed=100 + i * (not tied)) for i in range(K)]

    def start(op: Any, y: Any) -> tuple[Any, ...]:
        return (op("MatMul", y, np.zeros((m, n), np.float32)),)

    def step(op: Any, k: int, y: Any, x: Any) -> tuple[Any, ...]:
        by_input = op("MatMul", y, inputs[k])
        if tied:
            return (_soft(op, op("Add", op.by_rows(x, weights[k]), by_input), 0.02),)
        return (_soft(op, op("Sub", by_input, op("MatMul", x, weights[k])), 0.02),)

    return Solver("lista" if tied else "lista-untied", (m,), (n,), start, step)


def _fista() -> Solver:
    m, n = 7, 9
    a, gram = _random(m, n, seed=3), 0.3 * _random(n, n, seed=4)

    def start(op: Any, y: Any) -> tuple[Any, ...]:
        b = op("MatMul", y, a)
        return op("Mul", b, np.float32(0)), op("Mul", b, np.float32(0)), b

    def step(op: Any, k: int, y: Any, x: Any, z: Any, b: Any) -> tuple[Any, ...]:
        after = _soft(op, op("Sub", z, op("Mul", op("Sub", op("MatMul", z, gram), b), np.float32(0.4))), 0.01)
        return after, op("Add", after, op("Mul", op("Sub", after, x), np.float32(k / (k + 3)))), b

    return Solver("fista", (m,), (n,), start, step)


def _admm() -> Solver:
    m, n = 5, 8
    a, inverse = _random(m, n, seed=5), _random(n, n, seed=6)

    def start(op: Any, y: Any) -> tuple[Any, ...]:
        b = op("MatMul", y, a)
        return op("Mul", b, np.float32(0)), op("Mul", b, np.float32(0)), b

    def step(op: Any, k: int, y: Any, z: Any, u: Any, b: Any) -> tuple[Any, ...]:
        x = op("MatMul", op("Add", b, op("Mul", op("Sub", z, u), np.float32(0.5))), inverse)
        both = op("Add", x, u)
        after = _soft(op, both, 0.1)
        return after, op("Sub", both, after), b

    return Solver("admm", (m,), (n,), start, step)


def _pgd() -> Solver:
    """x <- max(x - s (x A - y) A^T, 0), with two products, of which the first goes into the second."""
    m, n = 6, 11
    a = _random(n, m, seed=8)

    def start(op: Any, y: Any) -> tuple[Any, ...]:
        return (op("Relu", op("MatMul", y, np.ascontiguousarray(a.T))),)

    def step(op: Any, k: int, y: Any, x: Any) -> tuple[Any, ...]:
        gradient = op("MatMul", op("Sub", op("MatMul", x, a), y), np.ascontiguousarray(a.T))
        return (op("Relu", op("Sub", x, op("Mul", gradient, np.float32(0.3)))),)

    return Solver("pgd", (m,), (n,), start, step)


def _two_sided() -> Solver:
    """X <- soft(A X B + Y), for a matrix of each problem, with weights on either side."""
    m, n = 4, 6
    left, right = 0.5 * _random(m, m, seed=9), 0.5 * _random(n, n, seed=10)

    def start(op: Any, y: Any) -> tuple[Any, ...]:
        return (op("Mul", y, np.float32(0.5)),)

    def step(op: Any, k: int, y: Any, x: Any) -> tuple[Any, ...]:
        return (_soft(op, op("Add", op("MatMul", left, op("MatMul", x, right)), y), 0.05),)

    return Solver("two-sided", (m, n), (m, n), start, step)


def _normalised() -> Solver:
    """x <- x W / (1 + sum x^2): one number for each problem in between."""
    n = 9
    weights = _random(n, n, seed=11)

    def start(op: Any, y: Any) -> tuple[Any, ...]:
        return (op("Mul", y, np.float32(0.5)),)

    def step(op: Any, k: int, y: Any, x: Any) -> tuple[Any, ...]:
        return (op("Div", op("MatMul", x, weights), op("Add", op.total(op("Mul", x, x)), np.float32(1))),)

    return Solver("normalised", (n,), (n,), start, step)


SOLVERS = (_lista(True), _lista(False), _fista(), _admm(), _pgd(), _two_sided(), _normalised())


def inputs(solver: Solver, batch: int, seed: int = 0) -> np.ndarray:
    """Random problems."""
    return np.random.default_rng(1000 * batch + seed).standard_normal((batch, *solver.given)).astype(np.float32)
