"""Random unrolled solvers, exported as exporters do, against ONNX Runtime on the plain model: rolled, and as loops.

After fewer iterations the outputs are those of the model with so many, where its iterations are named.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import helper, numpy_helper

from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.repeat_nests import repeat_nests
from unfoldc.kernels.pipeline import optimise
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.program import Program
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.kernels.verify import verify_loops

N = 3
CASES = 60

# -- solvers ---------------------------------------------------------------------------------------------------------

STARTS = ("zeros", "zeros", "const", "y", "expand")
OPERATIONS = (
    *("Add", "Sub", "Max", "Mul", "MatMul", "MatMul", "Tanh", "Gain", "Bias", "soft", "norm", "Where"),
    *("momentum", "momentum", "fresh", "mix"),
)
OUTPUTS = (
    *(("state",), ("state",), ("state",), ("tail",), ("state", "before"), ("stack",), ("cat",), ("state", "stack")),
    *(("each",), ("mean",), ("stack_tail",), ("other", "stack"), ("stack", "state"), ("diff",)),
)
EXPORTERS = (
    (),
    (),
    ("fold",),
    ("fold", "neutral"),
    ("merge",),
    ("fold", "merge"),
    ("fold", "neutral", "fold", "merge"),
)


@dataclass
class Spec:
    """What a solver does, whatever its K."""

    seed: int
    K: int = 0
    style: str = "names"
    states: int = 1
    start: list[str] = field(default_factory=list)
    back: int = 1
    stream: list[int] = field(default_factory=list)
    inner: int = 0
    outputs: Sequence[str] = ()
    exporter: Sequence[str] = ()
    patterns: list[list[tuple[str, int, int, str]]] = field(default_factory=list)
    handed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        r = random.Random(self.seed)
        self.K = r.choice((2, 3, 4, 5, 7))
        self.style = r.choice(("names", "names", "scopes", "none", "none"))
        self.states = r.choice((1, 1, 2, 3))
        self.start = [r.choice(STARTS) for _ in range(self.states)]
        self.back = r.choice((1, 1, 2, 3))
        places = [range(self.K), range(self.K)[::-1], [k * k % self.K for k in range(self.K)]]
        self.stream, self.inner = list(r.choice(([], [], [], [], [], *places))), r.choice((0, 0, 0, 4))
        self.outputs, self.exporter = r.choice(OUTPUTS), r.choice(EXPORTERS)
        for _ in range(r.choice((1, 1, 1, 2, 3))):  # layers of several kinds that take turns
            length = r.choice((1, 2, 3, 4, 6))
            pick = [(r.choice(OPERATIONS), r.randrange(999), r.randrange(999)) for _ in range(length)]
            self.patterns.append([(*p, r.choice(("tied", "tied", "untied", "half"))) for p in pick])
        self.handed = [r.randrange(999) for _ in range(self.states)]


def layer(g: Any, spec: Spec, k: int, history: list[list[str]], shared: list[str], s: str) -> list[str]:
    """The values that iteration k makes, in order."""
    made: list[str] = []
    now, older = history[-1], [v for back in history[-spec.back : -1] for v in back]
    if spec.stream:
        made.append(g("Gather", s, g.weight(f"p{k}", spec.stream[k], "int64"), axis=1))
    for place, (operation, i, j, tie) in enumerate(spec.patterns[k % len(spec.patterns)]):
        pool = [*now, *now, *made, *made, *shared, *older]
        a, b = pool[i % len(pool)], pool[j % len(pool)]
        name = f"{operation}{place % 2}" + {"tied": "", "untied": f".{k}", "half": f".{k % 2}"}[tie]
        made.append(one(g, operation, a, b, name, now[i % len(now)], older[-1] if older else shared[1]))
    value, before = made[-1], now[0]
    for t in range(spec.inner):
        step = g("Mul", g("Tanh", g("MatMul", value, "W")), g.weight(f"inner {t}", 0.5 + 0.1 * t * t))
        value, before = g("Sub", g("MatMul", step, "W"), g("Mul", g.weight("1/8", 0.125), before)), value
    return [*made, value] if spec.inner else made


def one(g: Any, operation: str, a: str, b: str, name: str, now: str, old: str) -> str:
    """One operation on a and b; constants are called `name`."""

    def matrix() -> Any:
        return g.weight(name, g.random(name, N, N))

    def scalar() -> Any:
        return g.weight(name, 0.5 + 0.3 * np.tanh(g.random(name)))

    one = g.weight("1.0", 1.0)
    result: str
    match operation:
        case "MatMul" | "fresh":
            result = g("MatMul", "y" if operation == "fresh" else a, matrix())
        case "Tanh":
            result = g("Tanh", a)
        case "Max":
            result = g("Max", a, b)
        case "Gain":
            result = g("Mul", a, scalar())
        case "Bias":
            result = g("Add", a, g.weight(name, g.random(name, N)))
        case "soft":
            result = g.soft(a, g.weight(name, [0.1 * abs(float(g.random(name)))]))
        case "norm":
            square = g("ReduceSum", g("Mul", a, a), g.weight("axis 1", [1], "int64"))
            result = g("Div", b, g("Sqrt", g("Add", square, one)))
        case "Where":
            result = g("Where", g("Greater", a, g.weight("0.0", 0.0)), a, b)
        case "momentum":
            result = g("Add", now, g("Mul", scalar(), g("Sub", a, old)))
        case "mix":
            result = g("Add", g("Mul", a, scalar()), g("Mul", b, g("Sub", one, scalar())))
        case _:
            result = g("Tanh", g(operation, a, b))
    return result


def unrolled(workshop: Any, spec: Spec, K: int) -> onnx.ModelProto:
    """The plain model of K iterations."""
    g = workshop.Graph(dtype="float64", style=spec.style)
    y = g.input("y", "batch", N)
    s = g.input("s", "batch", spec.K, N) if spec.stream else ""
    w = g.weight("W", g.random("W", N, N))
    shared = [y, g("Tanh", g("MatMul", y, w))]
    starts = {"y": lambda i: y, "expand": lambda i: g.zeros(y, N), "zeros": lambda i: g.weight("zeros", [[0.0] * N])}
    starts["const"] = lambda i: g.weight(f"start {i}", g.random(f"start {i}", 1, N))
    history = [[starts[kind](i) for i, kind in enumerate(spec.start)]] * spec.back
    for g.k in range(K):
        made = layer(g, spec, g.k, history, shared, s)
        pool = [*made[::-1], *history[-1]]
        history.append([made[-1], *(pool[i % len(pool)] for i in spec.handed[1:])])
    g.k = None
    xs = [states[0] for states in history[-K:]]
    outputs = [o for what in spec.outputs for o in outcome(g, what, xs, history)]
    model: onnx.ModelProto = g.model(*(g("Identity", o, out=f"out{i}") for i, o in enumerate(outputs)))
    return model


def outcome(g: Any, what: str, xs: list[str], history: list[list[str]]) -> list[str]:
    """An output, or several."""
    axis = g.weight("axis 1", [1], "int64")
    match what:
        case "each":
            return xs
        case "state" | "before":
            return [history[-1 if what == "state" else -2][0]]
        case "other":
            return [history[-1][-1]]
        case "diff":
            return [g("Sub", history[-1][0], history[-2][0])]
        case "tail":
            return [g("Sigmoid", g("MatMul", xs[-1], g.weight("D", g.random("D", N, N))))]
        case "mean":
            return [g("Mul", g("Sum", *xs), g.weight("1/K", 1 / len(xs)))]
        case "cat":
            return [g("Concat", *xs, axis=1)]
    parts = [g("MatMul", x, g.weight("D", g.random("D", N, N))) for x in xs] if what == "stack_tail" else xs
    return [g("Concat", *(g("Unsqueeze", x, axis) for x in parts), axis=1)]


# -- exporters -------------------------------------------------------------------------------------------------------

Nodes = list[onnx.NodeProto]
Values = dict[str, np.ndarray]


def fold(nodes: Nodes, values: Values) -> Nodes:
    """Computes what depends on constants alone."""
    kept = []
    for node in nodes:
        if all(i in values for i in node.input):
            graph = helper.make_graph(
                [node],
                "one",
                [],
                [helper.make_empty_tensor_value_info(node.output[0])],
                [numpy_helper.from_array(values[name], name) for name in set(node.input)],
            )
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
            (found,) = onnx.reference.ReferenceEvaluator(model).run(None, {})
            values[node.output[0]] = np.asarray(found)
        else:
            kept.append(node)
    return kept


def renamed(node: onnx.NodeProto, names: dict[str, str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(i, i) for i in node.input]
    return copy


def merge(nodes: Nodes, values: Values) -> Nodes:
    """Computes a common expression once."""
    first: dict[object, str] = {}
    names: dict[str, str] = {}
    kept = []
    for node in (renamed(n, names) for n in nodes):
        node.input[:] = [names.get(i, i) for i in node.input]
        key = node.op_type, tuple(node.input), tuple(sorted(a.SerializeToString() for a in node.attribute))
        if node.op_type == "Identity" or first.setdefault(key, node.output[0]) == node.output[0]:
            kept.append(node)
        else:
            names[node.output[0]] = first[key]
    return kept


def neutral(nodes: Nodes, values: Values) -> Nodes:
    """Leaves out x + 0, x - 0 and x 1."""
    names: dict[str, str] = {}
    kept = []
    for node in nodes:
        node = renamed(node, names)
        element = {"Add": 0, "Sub": 0, "Mul": 1}.get(node.op_type)
        for x, constant in (node.input[:2], node.input[1::-1]) if element is not None else ():
            here = constant in values and values[constant].size in (1, N) and x not in values
            if here and (values[constant] == element).all() and (node.op_type != "Sub" or constant == node.input[1]):
                names[node.output[0]] = x
                break
        else:
            kept.append(node)
    return kept


STEPS = {"fold": fold, "merge": merge, "neutral": neutral}


def exported(model: onnx.ModelProto, steps: Sequence[str]) -> onnx.ModelProto:
    """The model after the exporter's steps, without what nobody reads."""
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    answers = {o.name for o in model.graph.output}
    last = [n for n in model.graph.node if n.output[0] in answers]
    nodes = [n for n in model.graph.node if n.output[0] not in answers]
    for step in steps:
        nodes = STEPS[step]([*nodes, *last], values)
        last, nodes = [n for n in nodes if n.output[0] in answers], [n for n in nodes if n.output[0] not in answers]
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.initializer[:]
    needed = set(answers)
    for node in reversed([*nodes, *last]):
        if node.output[0] in needed:
            needed.update(node.input)
            result.graph.node.insert(0, node)
    result.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in values.items() if n in needed)
    return result


# -- checks ----------------------------------------------------------------------------------------------------------


def early(spec: Spec, found: np.ndarray, wanted: np.ndarray, what: str) -> bool:
    """Whether an output after fewer iterations is right; a join holds zeros where no iteration ran."""
    if what in ("stack", "stack_tail", "cat"):
        rest = found[:, wanted.shape[1] :]
        found = found[:, : wanted.shape[1]]
        if rest.any():
            return False
    return bool(np.abs(found - wanted).max(initial=0) <= 1e-9 * max(1.0, np.abs(wanted).max(initial=0)))


def check(workshop: Any, seed: int) -> Program:
    """Full runs are right on both levels; early ones where the program allows them and they are the spec's."""
    spec = Spec(seed)
    feeds = {"y": workshop.random(f"y{seed}", 1, N, scale=1.0), "s": workshop.random("s", 1, spec.K, N, scale=1.0)}
    plain = unrolled(workshop, spec, spec.K)
    truth = list(workshop.run_onnx(plain, feeds).values())
    imported = import_onnx(workshop.save(exported(plain, spec.exporter)))
    program = optimise(imported.program, verify=True)
    inputs = {p.name: feeds[p.name] for p in imported.inputs}
    workshop.close(evaluate(program, inputs, dtype=None), truth, 1e-9)
    loops = repeat_nests(lower(program))
    verify_loops(loops)
    arrays = dict(zip(loops.inputs, inputs.values(), strict=True))
    workshop.close(list(run(loops, arrays).values()), truth, 1e-9)
    alike = len(spec.patterns) == 1 and program.iterations == spec.K and not program.guessed
    if program.early_stop or not alike or "diff" in spec.outputs:
        return program
    for k in range(1, spec.K):
        wanted = workshop.run_onnx(unrolled(workshop, spec, k), feeds).values()
        found = [
            f.reshape(t.shape) for f, t in zip(evaluate(program, inputs, dtype=None, iterations=k), truth, strict=True)
        ]
        for f, w, what in zip(found, wanted, spec.outputs, strict=True):
            if k > 1 or what != "before":  # what comes before the first iterate is the model's own affair
                assert early(spec, f, w, what), (seed, k, what)
    return program


@pytest.mark.parametrize("seed", range(CASES))
def test_random_solver(workshop: Any, seed: int) -> None:
    check(workshop, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(CASES, 40 * CASES, CASES))
def test_many_random_solvers(workshop: Any, seed: int) -> None:
    for more in range(CASES):
        check(workshop, seed + more)
