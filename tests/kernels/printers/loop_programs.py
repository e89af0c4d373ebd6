"""Loop programs written by hand, which the tests of all printers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from unfoldc.kernels.artifact import Artifact, Cost, MemoryPlan, Port
from unfoldc.kernels.loops import (
    BINARY_OPERATORS,
    COMPARISONS,
    Assign,
    Binary,
    Buffer,
    Cast,
    Const,
    Expr,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Nest,
    Select,
    Step,
    Stmt,
    Store,
    Unary,
    Var,
)
from unfoldc.kernels.target_spec import TargetSpec

HOST = TargetSpec(name="host", word_bits=64, vector_bits=256, accumulators=16)
# Ties of `round`, both zeros, both infinities and NaN; all that 32 bits hold exactly.
SPECIAL = (-np.inf, -2.5, -1.5, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 20.0, np.inf, np.nan)
FLOAT_UNARY = ("neg", "abs", "sqrt", "exp", "log", "tanh", "erf", "sin", "cos", "floor", "ceil", "round", "isnan")
FLOAT_BINARY = tuple(o for o in BINARY_OPERATORS if o not in ("and", "or", "floordiv", "mod"))
INTEGER_BINARY = tuple(o for o in FLOAT_BINARY if o not in ("pow", "fmod"))


def const(value: float, dtype: str = "int32") -> Const:
    return Const(value, dtype)


def var(name: str) -> Var:
    return Var(name)


def binary(operator: str, a: Expr, b: Expr) -> Binary:
    return Binary(operator, a, b, "bool" if operator in COMPARISONS else a.dtype)


def add(a: Expr, b: Expr) -> Binary:
    return binary("add", a, b)


def mul(a: Expr, b: Expr) -> Binary:
    return binary("mul", a, b)


def soft(a: Expr, threshold: Expr) -> Expr:
    """sign(a) max(|a| - threshold, 0)"""
    zero = const(0.0, a.dtype)
    size = binary("max", binary("sub", Unary("abs", a, a.dtype), threshold), zero)
    return Select(binary("lt", a, zero), Unary("neg", size, a.dtype), size, a.dtype)


def ports(program: LoopProgram, names: Sequence[str], batched: bool | dict[str, bool] = True) -> tuple[Port, ...]:
    return tuple(
        Port(name, b.dtype, b.shape, batched if isinstance(batched, bool) else batched[name])
        for name, b in ((name, program.buffers[name]) for name in names)
    )


def artifact(program: LoopProgram, backend: str, sources: dict[str, str], batched: Any = True) -> Artifact:
    return Artifact(
        symbol="solver",
        backend=backend,
        target=HOST,
        iterations=program.iterations,
        inputs=ports(program, program.inputs, batched),
        outputs=ports(program, program.outputs, batched),
        sources=sources,
        weights=program.constants,
        memory=MemoryPlan(0, 0, 0),
        cost=Cost(0, (), 0, ()),
    )


def _program(
    buffers: Sequence[Buffer],
    constants: dict[str, np.ndarray],
    begin: tuple[Stmt, ...],
    steps: tuple[Step, ...],
    end: tuple[Stmt, ...],
    **plan: Any,
) -> LoopProgram:
    table = {b.name: b for b in buffers}
    inputs = tuple(b.name for b in buffers if b.space == "input")
    outputs = tuple(b.name for b in buffers if b.space == "output")
    return LoopProgram(table, constants, inputs, outputs, begin, steps, end, **plan)


def lista(dtype: str = "float32", peeled: bool = False, m: int = 5, n: int = 9, iterations: int = 4) -> LoopProgram:
    """x <- soft(W2 x + W1 y, theta[k]); where peeled, the first iteration is soft(W1 y, theta[0])."""
    rng = np.random.default_rng(7)
    constants = {
        "W1": rng.normal(size=(n, m)).astype(dtype),
        "W2": (rng.normal(size=(n, n)) / 4).astype(dtype),
        "theta": rng.uniform(0.05, 0.4, size=(iterations, n)).astype(dtype),
    }
    buffers = [
        Buffer("y", dtype, (m,), "input"),
        Buffer("x", dtype, (n,), "output"),
        *(Buffer(name, dtype, value.shape, "constant") for name, value in constants.items()),
        Buffer("b", dtype, (n,), "state"),
        Buffer("z", dtype, (n,), "state"),
        Buffer("t", dtype, (n,), "scratch"),
    ]

    def load(name: str, *indices: Expr) -> Load:
        return Load(name, indices, dtype)

    i, j, acc = var("i"), var("j"), Local("acc", dtype)
    row = For("j", m, (Assign("acc", add(acc, mul(load("W1", i, j), load("y", j)))),))
    product = For("i", n, (Let("acc", const(0.0, dtype), True), row, Store("b", (i,), acc)), "vector")
    clear = For("i", n, (Store("z", (i,), const(0.0, dtype)),), "vector")
    begin = (Nest(("begin/W1 y */ \n#",), (product,)), Nest((), (clear,)))
    inner = For("j", n, (Assign("acc", add(acc, mul(load("W2", i, j), load("z", j)))),))
    gather = For("i", n, (Let("acc", load("b", i), True), inner, Store("t", (i,), acc)))
    update = For("i", n, (Store("z", (i,), soft(load("t", i), load("theta", var("k"), i))),), "unroll")
    full = (Nest(("iteration.1/matmul", "iteration.1/add"), (gather,)), Nest(("iteration.1/soft",), (update,)))
    first = (For("i", n, (Store("z", (i,), soft(load("b", i), load("theta", const(0), i))),)),)
    steps = (Step(0, 1, first), Step(1, iterations - 1, full)) if peeled else (Step(0, iterations, full),)
    end = (For("i", n, (Store("x", (i,), load("z", i)),)),)
    nbytes = n * np.dtype(dtype).itemsize
    return _program(buffers, constants, begin, steps, end, scratch_offsets={"t": 0}, scratch_bytes=nbytes)


def powers() -> LoopProgram:
    """Sums of rows of A, and from each a row of its multiples, which is filled from left to right."""
    i, j, acc = var("i"), var("j"), Local("acc", "float32")
    buffers = [Buffer("A", "float32", (16, 9), "input"), Buffer("x", "float32", (16, 9), "output")]
    buffers.append(Buffer("z", "float32", (16,), "state"))
    start = Let("acc", Load("z", (i,), "float32"), mutable=True)
    row = For("j", 9, (Assign("acc", add(acc, Load("A", (i, j), "float32"))),))
    clear = For("i", 16, (Store("z", (i,), const(0.0, "float32")),))
    sums = For("i", 16, (start, row, Store("z", (i,), acc)))
    times = Assign("acc", mul(acc, const(1.5, "float32")))
    fill = For("i", 16, (start, For("j", 9, (times, Store("x", (i, j), acc)))))
    return _program(buffers, {}, (Nest((), (clear,)),), (Step(0, 2, (Nest((), (sums,)),)),), (Nest((), (fill,)),))


def elementwise(inputs: dict[str, tuple[str, int]], results: dict[str, Callable[..., Expr]], n: int) -> LoopProgram:
    """Each result, a function of the inputs' elements, over all positions, in `end`; the one iteration is empty."""
    buffers = [Buffer(name, dtype, (size,), "input") for name, (dtype, size) in inputs.items()]
    body: list[Stmt] = []
    for name, result in results.items():
        value = result(**{a: Load(a, (var("i"),), dtype) for a, (dtype, _) in inputs.items()})
        buffers.append(Buffer(name, value.dtype, (n,), "output"))
        body.append(Store(name, (var("i"),), value))
    return _program(buffers, {}, (), (Step(0, 1, ()),), (For("i", n, tuple(body)),))


def float_operators(dtype: str) -> tuple[LoopProgram, dict[str, np.ndarray]]:
    """Every operator on every pair of the special values, and with a constant on either side."""
    a, b = (v.ravel() for v in np.meshgrid(np.array(SPECIAL, dtype), np.array(SPECIAL, dtype)))
    results: dict[str, Callable[..., Expr]] = {}
    for o in FLOAT_UNARY:
        results[f"u_{o}"] = lambda a, b, o=o: Unary(o, a, "bool" if o == "isnan" else a.dtype)
    for o in FLOAT_BINARY:
        results[f"b_{o}"] = lambda a, b, o=o: binary(o, a, b)
        if o in COMPARISONS:
            continue
        results[f"right_{o}"] = lambda a, b, o=o: binary(o, a, const(1.5, dtype))
        results[f"left_{o}"] = lambda a, b, o=o: binary(o, const(1.5, dtype), b)
    for o in ("sub", "mul", "div", "pow", "eq", "ne"):  # what a careless simplifier takes for x, 0, 1 or True
        results[f"same_{o}"] = lambda a, b, o=o: binary(o, a, a)
        results[f"zero_{o}"] = lambda a, b, o=o: binary(o, const(0.0, dtype), a)
        results[f"{o}_zero"] = lambda a, b, o=o: binary(o, a, const(0.0, dtype))
    results["max_nan"] = lambda a, b: binary("max", a, const(np.nan, dtype))
    results["min_inf"] = lambda a, b: binary("min", a, const(-np.inf, dtype))
    results["relu"] = lambda a, b: binary("max", a, const(0.0, dtype))
    results["soft"] = lambda a, b: soft(a, b)
    results["chosen"] = lambda a, b: Select(
        Unary("not", binary("or", binary("lt", a, b), Unary("isnan", b, "bool")), "bool"), a, mul(b, b), dtype
    )
    results["both"] = lambda a, b: binary("and", binary("ge", a, const(0.0, dtype)), binary("ne", a, b))
    return elementwise({"a": (dtype, a.size), "b": (dtype, a.size)}, results, a.size), {"a": a, "b": b}


def integer_operators(dtype: str) -> tuple[LoopProgram, dict[str, np.ndarray]]:
    """Every operator on small integers of either sign where there are two, divisors not 0."""
    low = 0 if dtype.startswith("u") else -7
    a, b = (v.ravel() for v in np.meshgrid(np.arange(low, 8, dtype=dtype), np.array([1, 2, 3, 7, low or 5], dtype)))
    results: dict[str, Callable[..., Expr]] = {o: lambda a, b, o=o: binary(o, a, b) for o in INTEGER_BINARY}
    if low:
        results |= {o: lambda a, b, o=o: Unary(o, a, dtype) for o in ("neg", "abs")}
    size = (lambda e: Unary("abs", e, dtype)) if low else (lambda e: e)
    results |= {o: lambda a, b, o=o: binary(o, size(a), size(b)) for o in ("floordiv", "mod")}
    results["wrapped"] = lambda a, b: Cast(mul(a, const(100, dtype)), "float64")
    results["wide"] = lambda a, b: Cast(binary("mul", Cast(a, "int64"), const(3_000_000_000, "int64")), "float64")
    results["chosen"] = lambda a, b: Select(binary("eq", a, b), a, const(3, dtype), dtype)
    renamed = {f"r_{name}": result for name, result in results.items()}
    return elementwise({"a": (dtype, a.size), "b": (dtype, a.size)}, renamed, a.size), {"a": a, "b": b}


def casts(kinds: Sequence[str]) -> tuple[LoopProgram, dict[str, np.ndarray]]:
    """Each of `kinds` to each, by values that all can hold; floats with a fraction are cut."""
    values = {
        "bool": [0, 1, 1, 0, 1, 0],
        "float32": [0, 0.5, 1, 2.75, 100.25, 0],
        "float64": [0, 0.5, 1, 2.75, 100.25, 9],
    }
    inputs = {f"from_{k}": np.array(values.get(k, [0, 1, 2, 3, 100, 127]), k) for k in kinds}
    results: dict[str, Callable[..., Expr]] = {}
    for source in kinds:
        for to in kinds:
            results[f"{source}_to_{to}"] = lambda source=source, to=to, **v: Cast(v[f"from_{source}"], to)
    results["cut"] = lambda **v: Cast(Unary("neg", v["from_float32"], "float32"), "int32")
    results["nan_is_true"] = lambda **v: Cast(
        binary("div", const(0.0, "float64"), binary("sub", v["from_float64"], v["from_float64"])), "bool"
    )
    results["counted"] = lambda **v: Cast(add(mul(var("i"), const(2)), const(1)), "float32")
    results["flags"] = lambda **v: binary("eq", v["from_bool"], Unary("not", v["from_bool"], "bool"))
    return elementwise({a: (v.dtype.name, v.size) for a, v in inputs.items()}, results, 6), inputs


def awkward() -> tuple[LoopProgram, dict[str, np.ndarray]]:
    """Names that mean something to Python, two axes, a gather, one name for two types, several ports, one unused."""
    table = np.arange(24, dtype="float64").reshape(4, 6) / 7
    buffers = [
        Buffer("in", "float64", (2, 3), "input"),
        Buffer("not", "int64", (3,), "input"),
        Buffer("yield", "float32", (2,), "input"),
        Buffer("lambda", "float64", (4, 6), "constant"),
        Buffer("is", "float32", (2,), "constant"),
        Buffer("None", "int64", (3,), "constant"),
        Buffer("range", "float64", (2, 3), "state"),
        Buffer("workspace", "int32", (3,), "state"),
        Buffer("weights_float64", "float32", (3,), "scratch"),
        Buffer("def", "float64", (3, 2), "output"),
        Buffer("np", "float32", (3,), "output"),
        Buffer("T", "bool", (1,), "output"),
    ]
    i, j = var("i"), var("j")
    row = binary("mod", Load("not", (j,), "int64"), const(4, "int64"))
    begin = (
        For("i", 2, (For("j", 3, (Store("range", (i, j), Load("in", (i, j), "float64")),)),)),
        For("j", 3, (Store("workspace", (j,), Cast(row, "int32")),)),
    )
    end = (
        For("i", 2, (For("j", 3, (Store("def", (j, i), Load("range", (i, j), "float64")),)),)),
        For("j", 3, (Store("np", (j,), Cast(Load("range", (const(1), j), "float64"), "float32")),)),
        Store(
            "T",
            (const(0),),
            binary("gt", Load("range", (const(0), const(0)), "float64"), const(0.5, "float64")),
        ),
    )
    constants = {"lambda": table, "is": np.array([0.25, -3], "float32"), "None": np.array([4, -6, -1])}
    program = _program(buffers, constants, begin, (Step(0, 3, _awkward_step(i, j)),), end)
    rng = np.random.default_rng(3)
    return program, {
        "in": rng.normal(size=(2, 3)),
        "not": np.array([5, 2, 11], "int64"),
        "yield": np.zeros(2, "float32"),
    }


def _awkward_step(i: Var, j: Var) -> tuple[Stmt, ...]:
    """Two loops with a scalar of one name, the second of which looks up numbers of a table."""
    scale = Load("is", (binary("mod", var("k"), const(2)),), "float32")
    first = For(
        "j",
        3,
        (
            Let("t", mul(scale, Cast(Load("workspace", (j,), "int32"), "float32"))),
            Store("weights_float64", (j,), Local("t", "float32")),
        ),
    )
    raw = Cast(Load("None", (j,), "int64"), "int32")
    column = Select(binary("lt", raw, const(0)), add(raw, const(6)), raw, "int32")
    picked = Load("lambda", (Load("workspace", (j,), "int32"), column), "float64")
    second = For(
        "i",
        2,
        (
            For(
                "j",
                3,
                (
                    Let("t", add(picked, Cast(Load("weights_float64", (j,), "float32"), "float64")), True),
                    Assign("t", add(Local("t", "float64"), Load("range", (i, j), "float64"))),
                    Store("range", (i, j), Local("t", "float64")),
                ),
            ),
        ),
    )
    return first, second


def overlaid() -> tuple[LoopProgram, dict[str, np.ndarray]]:
    """Scratch buffers of which `early` and `kept`, live at once, both make room for `late`; `apart` overlaps none."""
    i, n, dtype = var("i"), 40, "float32"
    places = {"early": 0, "kept": 4 * n, "late": 2 * n, "apart": 8 * n}
    buffers = [
        Buffer("y", dtype, (n,), "input"),
        Buffer("x", dtype, (n,), "output"),
        Buffer("z", dtype, (n,), "state"),
        *(Buffer(name, dtype, (n,), "scratch") for name in places),
    ]

    def load(name: str, index: Expr = i) -> Load:
        return Load(name, (index,), dtype)

    def fill(name: str, value: Expr) -> For:
        return For("i", n, (Store(name, (i,), value),))

    body = (
        fill("early", mul(load("z"), const(2.0, dtype))),
        fill("kept", add(load("z"), const(1.0, dtype))),
        fill("apart", mul(load("z"), const(0.5, dtype))),
        fill("z", add(load("early"), load("kept"))),
        fill("late", mul(load("z"), const(3.0, dtype))),
        fill("z", add(load("late", binary("sub", const(n - 1), i)), load("apart"))),
    )
    steps = (Step(0, 2, body),)
    program = _program(
        buffers,
        {},
        (fill("z", load("y")),),
        steps,
        (fill("x", load("z")),),
        scratch_offsets=places,
        scratch_bytes=12 * n,
    )
    return program, {"y": np.arange(n, dtype=dtype)}


def gather() -> tuple[LoopProgram, dict[str, np.ndarray], np.ndarray]:
    """x[i] = table[p[i]] with p from outside and beyond the table; what must come of it: the nearest element."""
    program = elementwise({"p": ("int64", 5), "table": ("float32", 5)}, {"x": lambda p, table: table}, 5)
    body = For("i", 5, (Store("x", (var("i"),), Load("table", (Load("p", (var("i"),), "int64"),), "float32")),))
    table = np.arange(1, 6, dtype="float32")
    inputs = {"p": np.array([0, 4, 5, -1, 2**40]), "table": table}
    return replace(program, end=(body,)), inputs, np.array([1, 5, 5, 1, 5], "float32")
