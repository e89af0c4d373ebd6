"""The programs that the tests of back end `c` compile and run: every operator, every shape of solver."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unfoldc.kernels.loops import (
    Assign,
    Buffer,
    Cast,
    Expr,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Nest,
    Select,
    Step,
    Store,
    Unary,
)


def _build() -> Any:
    name = "c_build"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


b = _build()
p = b.programs
const, var, binary, add, mul = p.const, p.var, p.binary, p.add, p.mul
FLOAT_RESULTS = tuple(o for o in p.FLOAT_BINARY if o not in ("lt", "le", "gt", "ge", "eq", "ne"))


def shared_case(made: tuple[LoopProgram, dict[str, np.ndarray]]) -> Any:
    return b.Case(*made)


def integer_case(dtype: str) -> Any:
    """The ends of the range, where C leaves the plain operators undefined."""
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    values = np.array([least, least + 1, -7, -1, 0, 1, 2, 5, most - 1, most], dtype)
    x, y = (v.ravel() for v in np.meshgrid(values, values))
    results: dict[str, Callable[..., Expr]] = {
        f"r_{o}": lambda x, y, o=o: binary(o, x, y) for o in p.INTEGER_BINARY if o != "div"
    }
    results |= {f"u_{o}": lambda x, y, o=o: Unary(o, x, dtype) for o in ("neg", "abs")}

    def natural(x: Expr) -> Any:
        return binary("max", x, const(0, dtype))

    def divisor(y: Expr) -> Any:
        return binary("max", y, const(1, dtype))

    results |= {f"q_{o}": lambda x, y, o=o: binary(o, natural(x), divisor(y)) for o in ("div", "floordiv", "mod")}
    results["quotient"] = lambda x, y: binary("div", x, divisor(y))
    results["least"] = lambda x, y: binary("add", x, const(least, dtype))
    results["counted"] = lambda x, y: add(Cast(binary("sub", mul(var("i"), const(2)), const(3)), dtype), x)
    results["column"] = lambda x, y: Cast(binary("mod", var("i"), const(7)), dtype)
    results["row"] = lambda x, y: Cast(binary("floordiv", add(var("i"), mul(var("k"), const(3))), const(7)), dtype)
    return b.Case(b.elementwise({"x": x, "y": y}, results), {"x": x, "y": y})


def cast_case() -> Any:
    values = {
        "bool": [0, 1, 1, 0, 1, 0, 1, 1],
        "int32": [0, 1, -2, 3, 100, 2**31 - 1, -(2**31), 5],
        "int64": [0, 1, -2, 3, 100, 2**40, -(2**31), 2**31],
        "float32": [0, 0.5, -1.75, 2.75, 100.25, -2147483648.0, 2147483520.0, -0.5],
        "float64": [0, 0.5, -1.75, 2.75, 1e-40, -2147483648.5, 2147483647.5, 1e300],
    }
    inputs = {f"from_{k}": np.array(v, k) for k, v in values.items()}
    results: dict[str, Callable[..., Expr]] = {}
    for source in values:
        for to in values:
            if (source, to) != ("float64", "int64"):  # 1e300 has no place in an integer
                results[f"{source}_to_{to}"] = lambda source=source, to=to, **v: Cast(v[f"from_{source}"], to)
    results["float64_to_int32"] = lambda **v: Cast(
        binary("min", v["from_float64"], const(2.0**31 - 1, "float64")), "int32"
    )
    results["nested"] = lambda **v: Cast(Unary("neg", Cast(v["from_int32"], "float32"), "float32"), "float64")
    results["flags"] = lambda **v: binary("eq", v["from_bool"], Unary("not", v["from_bool"], "bool"))
    results["either"] = lambda **v: Select(
        v["from_bool"], v["from_bool"], binary("lt", v["from_int32"], const(4)), "bool"
    )
    results["limited"] = lambda **v: binary(
        "or", v["from_bool"], binary("and", v["from_bool"], Unary("not", v["from_bool"], "bool"))
    )
    return b.Case(b.elementwise(inputs, results), inputs)


def lane_case(dtype: str) -> Any:
    """Every operator, one problem per element of a vector; conditions only inside, so that all values are floats."""
    x, y = (v.ravel() for v in np.meshgrid(np.array(p.SPECIAL, dtype), np.array(p.SPECIAL, dtype)))
    one, two = const(1.0, dtype), const(2.0, dtype)
    results: dict[str, Callable[..., Expr]] = {}
    for o in p.FLOAT_UNARY:
        if o != "isnan":
            results[f"u_{o}"] = lambda x, y, o=o: Unary(o, x, dtype)
    for o in p.FLOAT_BINARY:
        condition = o not in FLOAT_RESULTS
        results[f"b_{o}"] = lambda x, y, o=o, c=condition: (
            Select(binary(o, x, y), x, two, dtype) if c else binary(o, x, y)
        )
        results[f"right_{o}"] = lambda x, y, o=o, c=condition: (
            Cast(binary(o, x, const(1.5, dtype)), dtype) if c else binary(o, x, const(1.5, dtype))
        )
        results[f"left_{o}"] = lambda x, y, o=o, c=condition: (
            Select(binary(o, const(1.5, dtype), y), one, y, dtype) if c else binary(o, const(1.5, dtype), y)
        )
    even = binary("eq", binary("mod", var("i"), const(2)), const(0))
    nan_y = Unary("isnan", y_ := Load("y", (var("i"),), dtype), "bool")
    results["relu"] = lambda x, y: binary("max", const(0.0, dtype), x)
    results["not_known"] = lambda x, y: binary("max", x, const(np.nan, dtype))
    results["soft"] = lambda x, y: p.soft(x, y)
    results["is_nan"] = lambda x, y: Select(Unary("not", nan_y, "bool"), one, x, dtype)
    results["place"] = lambda x, y: Select(even, x, const(3.0, dtype), dtype)
    results["mixed"] = lambda x, y: Select(binary("and", even, binary("lt", x, y)), x, y, dtype)
    results["either"] = lambda x, y: Select(binary("or", binary("lt", x, y), Unary("isnan", x, "bool")), two, y, dtype)
    results["same"] = lambda x, y: Select(binary("eq", nan_y, binary("lt", x, one)), two, x, dtype)
    results["apart"] = lambda x, y: Select(binary("ne", nan_y, even), two, x, dtype)
    results["uniform"] = lambda x, y: Cast(var("i"), dtype)
    results["scaled"] = lambda x, y: mul(Cast(add(var("i"), var("k")), dtype), y_)
    return b.Case(b.elementwise({"x": x, "y": y}, results), {"x": x, "y": y})


def lista_case(dtype: str, **shape: Any) -> Any:
    program = p.lista(dtype, **shape)
    m = program.buffers["y"].size
    return b.Case(program, {"y": np.random.default_rng(0).normal(size=m).astype(dtype)}, tolerance=1e-4)


def half_case(dtype: str, n: int, bits: int) -> Any:
    """A symmetric W2, of which the program for one problem reads half."""
    case = lista_case(dtype, n=n)
    constants = dict(case.program.constants)
    constants["W2"] = (constants["W2"] + constants["W2"].T) / 2
    spec = replace(b.HOST, vector_bits=bits, accumulators=bits // 32, first_cache=0)
    return replace(case, program=replace(case.program, constants=constants), spec=spec, vectors=True)


def gather_case() -> Any:
    """Indices that come from data and may be anything, two axes, several inputs and outputs of several types."""
    buffers = [
        Buffer("points", "float64", (2, 3), "input"),
        Buffer("rows", "int64", (3,), "input"),
        Buffer("table", "float64", (4, 6), "constant"),
        Buffer("scale", "float32", (2,), "constant"),
        Buffer("z", "float64", (2, 3), "state"),
        Buffer("row", "int32", (3,), "state"),
        Buffer("positive", "bool", (3,), "state"),
        Buffer("t", "float32", (3,), "scratch"),
        Buffer("turned", "float64", (3, 2), "output"),
        Buffer("brief", "float32", (3,), "output"),
        Buffer("signs", "bool", (1, 3), "output"),
        Buffer("quarters", "int32", (7,), "output"),
    ]
    i, j, k = var("i"), var("j"), var("k")
    row = binary("mod", Load("rows", (j,), "int64"), const(4, "int64"))
    begin = (
        For("i", 2, (For("j", 3, (Store("z", (i, j), Load("points", (i, j), "float64")),)),)),
        For("j", 3, (Store("row", (j,), Cast(row, "int32")), Store("positive", (j,), const(False, "bool")))),
    )
    factor = Load("scale", (binary("mod", k, const(2)),), "float32")
    first = For(
        "j",
        3,
        (Let("v", mul(factor, Cast(Load("row", (j,), "int32"), "float32"))), Store("t", (j,), Local("v", "float32"))),
    )
    picked = Load("table", (Load("row", (j,), "int32"), add(mul(i, const(3)), j)), "float64")
    inner = (
        Let("w", add(picked, Cast(Load("t", (j,), "float32"), "float64")), True),
        Assign("w", add(Local("w", "float64"), Load("z", (i, j), "float64"))),
        Store("z", (i, j), Local("w", "float64")),
        Store("positive", (j,), binary("gt", Local("w", "float64"), const(0.5, "float64"))),
    )
    second = Nest(("a/*b*/ (Mat*/Mul)", "plain"), (For("i", 2, (For("j", 3, inner),)),))
    quarter = binary("floordiv", add(i, k_ := const(1)), const(4))
    place = binary("mod", add(mul(i, const(3)), k_), const(7))
    end = (
        For("i", 2, (For("j", 3, (Store("turned", (j, i), Load("z", (i, j), "float64")),)),)),
        For("j", 3, (Store("brief", (j,), Cast(Load("z", (const(1), j), "float64"), "float32")),)),
        For("j", 3, (Store("signs", (const(0), j), Load("positive", (j,), "bool")),)),
        For("i", 7, (Store("quarters", (place,), quarter),)),
    )
    constants = {"table": np.arange(24, dtype="float64").reshape(4, 6) / 7, "scale": np.array([0.25, -3], "float32")}
    program = p._program(
        buffers, constants, begin, (Step(0, 3, (first, second)),), end, scratch_offsets={"t": 0}, scratch_bytes=12
    )
    rng = np.random.default_rng(3)
    return b.Case(program, {"points": rng.normal(size=(2, 3)), "rows": np.array([5, 2, 11], "int64")})


def channel_case() -> Any:
    """x += A^T (y - A x) / 20 with a matrix that all problems share and that every iteration reads again."""
    m, n = 6, 11
    buffers = [
        Buffer("A", "float32", (m, n), "input"),
        Buffer("y", "float32", (m,), "input"),
        Buffer("x", "float32", (n,), "state"),
        Buffer("r", "float32", (m,), "scratch"),
        Buffer("found", "float32", (n,), "output"),
        Buffer("error", "float32", (1,), "output"),
    ]
    i, j, acc = var("i"), var("j"), Local("acc", "float32")

    def load(name: str, *at: Expr) -> Load:
        return Load(name, at, "float32")

    def product(start: Expr, extent: int, term: Expr, then: Store, count: int) -> For:
        return For("i", count, (Let("acc", start, True), For("j", extent, (Assign("acc", add(acc, term)),)), then))

    minus = Unary("neg", load("x", j), "float32")
    residual = product(load("y", i), n, mul(load("A", i, j), minus), Store("r", (i,), acc), m)
    step = add(load("x", i), binary("div", acc, const(20.0, "float32")))
    update = product(const(0.0, "float32"), m, mul(load("A", j, i), load("r", j)), Store("x", (i,), step), n)
    clear = For("i", n, (Store("x", (i,), const(0.0, "float32")),))
    worst = (
        Let("acc", const(0.0, "float32"), True),
        For("j", m, (Assign("acc", binary("max", acc, Unary("abs", load("y", j), "float32"))),)),
        Store("error", (const(0),), acc),
    )
    end = (For("i", n, (Store("found", (i,), load("x", i)),)), Nest(("end/norm (ReduceMax)",), worst))
    program = p._program(
        buffers, {}, (clear,), (Step(0, 5, (residual, update)),), end, scratch_offsets={"r": 0}, scratch_bytes=24
    )
    rng = np.random.default_rng(4)
    inputs = {"A": rng.normal(size=(m, n)).astype("float32"), "y": rng.normal(size=m).astype("float32")}
    return b.Case(program, inputs, shared=frozenset({"A"}), tolerance=1e-4)


def overlapping_case() -> Any:
    """Four scratch buffers of which two at a time share their place."""
    n = 40
    names = ["t0", "t1", "t2", "t3"]
    buffers = [
        Buffer("y", "float32", (n,), "input"),
        Buffer("x", "float32", (n,), "state"),
        *(Buffer(t, "float32", (n,), "scratch") for t in names),
        Buffer("out", "float32", (n,), "output"),
    ]
    i = var("i")

    def load(name: str, at: Expr = i) -> Load:
        return Load(name, (at,), "float32")

    back = binary("sub", const(n - 1), i)
    chain = ["x", *names]
    body = [
        For("i", n, (Store(to, (i,), add(load(source, back), mul(load(source), load("y")))),))
        for source, to in zip(chain, names, strict=False)
    ]
    body.append(For("i", n, (Store("x", (i,), mul(load("t3"), const(0.5, "float32"))),)))
    begin = (For("i", n, (Store("x", (i,), load("y")),)),)
    end = (For("i", n, (Store("out", (i,), load("x")),)),)
    program = p._program(buffers, {}, begin, (Step(0, 3, tuple(body)),), end)
    return b.Case(program, {"y": np.random.default_rng(5).normal(size=n).astype("float32")})


def metal_case() -> Any:
    """The operators once more, with what stands in for the C library on bare metal: that keeps no signed zeros."""
    program, inputs = p.float_operators("float32")
    unsigned = {name: value + np.float32(0) for name, value in inputs.items()}
    return b.Case(program, unsigned, freestanding=True, tolerance=1e-6)


def function_case(n: int = 4000) -> Any:
    """The functions that bare metal lacks, over the whole range of a float."""
    rng = np.random.default_rng(6)
    x = np.concatenate([rng.normal(size=n // 4), 8 * rng.normal(size=n // 4), 10 ** rng.uniform(-40, 38, n // 2)])
    y = rng.normal(size=n) * 10 ** rng.uniform(-2, 1, n)
    x[::2] *= -1
    y[::3] = np.rint(y[::3])
    x[:20] = np.arange(-10, 10) / 2
    x[20:30] = np.nextafter(np.full(10, 0.5625, "float32"), 1 - np.arange(10, dtype="float32") % 2) * (-1) ** np.arange(
        10
    )
    x[30:40] = np.nextafter(np.full(10, 0.92, "float32"), np.arange(10, dtype="float32") % 2)
    x[40:60] = np.float32(2**22) + np.arange(20) / 2
    x[60:80] = 1 + np.arange(-10, 10) * 2.0**-22
    y[60:80] = 2.0**21
    inputs = {"x": x.astype("float32"), "y": y.astype("float32")}
    results: dict[str, Callable[..., Expr]] = {
        f"r_{o}": lambda x, y, o=o: Unary(o, x, "float32") for o in ("tanh", "erf", "round", "exp", "sin", "floor")
    }
    results["r_pow"] = lambda x, y: binary("pow", x, y)
    results["r_square"] = lambda x, y: binary("pow", x, const(2.0, "float32"))
    return replace(b.Case(b.elementwise(inputs, results), inputs), freestanding=True)


def all_cases() -> dict[str, Any]:
    return {
        "floats32": shared_case(p.float_operators("float32")),
        "floats64": shared_case(p.float_operators("float64")),
        "ints32": shared_case(p.integer_operators("int32")),
        "ints64": shared_case(p.integer_operators("int64")),
        "ends32": integer_case("int32"),
        "ends64": integer_case("int64"),
        "casts": shared_case(p.casts(("bool", "float32", "float64", "int32", "int64"))),
        "limits": cast_case(),
        "lanes32": lane_case("float32"),
        "lanes64": lane_case("float64"),
        "lista32": lista_case("float32", n=27),
        "lista64": lista_case("float64", n=27),
        "peeled": lista_case("float32", n=27, peeled=True),
        "h32": half_case("float32", 75, 512),
        "h64": half_case("float64", 27, 256),
        "single": lista_case("float32", iterations=1),
        "wide": replace(lista_case("float64", n=27), lanes=32),
        "awkward": shared_case(p.awkward()),
        "gather": gather_case(),
        "channel": channel_case(),
        "overlap": overlapping_case(),
        "metal": metal_case(),
        "functions": function_case(),
    }
