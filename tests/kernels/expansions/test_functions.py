"""Functions made of others lose no digits, in the loops and on every back end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import unfoldc
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.lower import lower
from unfoldc.kernels.pipeline import optimise
from unfoldc.kernels.reading.from_onnx import import_onnx

Exact = Callable[[Any], Any]


def gelu(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(np.sqrt(np.longdouble(2) / np.arccos(np.longdouble(-1))) * (x + 0.044715 * x**3)))


WIDE = (-30.0, 30.0)
# ONNX operator -> its meaning in more digits than float64 has, and the interval.
FUNCTIONS: dict[str, tuple[Exact, tuple[float, float]]] = {
    "Tan": (np.tan, (-3, 3)),
    "Asin": (np.arcsin, (-1, 1)),
    "Acos": (np.arccos, (-1, 1)),
    "Atan": (np.arctan, WIDE),
    "Sinh": (np.sinh, WIDE),
    "Cosh": (np.cosh, WIDE),
    "Asinh": (np.arcsinh, WIDE),
    "Acosh": (np.arccosh, (1, 30)),
    "Atanh": (np.arctanh, (-0.9999, 0.9999)),
    "Elu": (lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x), WIDE),
    "Mish": (lambda x: x * np.tanh(np.log1p(np.exp(x))), WIDE),
    "Swish": (lambda x: x / (1 + np.exp(-x)), WIDE),
    "Gelu": (gelu, (-1, 6)),
}
ATTRIBUTES: dict[str, dict[str, Any]] = {"Gelu": {"approximate": "tanh"}}
LIMITS = {"float32": 1e-6, "float64": 1e-14}


def places(low: float, high: float, dtype: str, seed: int) -> np.ndarray:
    """Points of the interval, many near its ends and near 0."""
    rng = np.random.default_rng(seed)
    u = rng.uniform(low, high, 60)
    tiny = 10.0 ** rng.uniform(-8, -1, 30)
    near = np.concatenate([tiny, -tiny, low + tiny, high - tiny])
    x = np.concatenate([u, near]).astype(dtype)
    return np.asarray(x[(x >= low) & (x <= high)])


def model_of(workshop: Any, names: list[str], dtype: str, n: int) -> Any:
    g = workshop.Graph(dtype=dtype, opset=24)
    outputs = [g(name, g.input(f"x_{name}", "batch", n), **ATTRIBUTES.get(name, {}), out=f"y_{name}") for name in names]
    return g.model(*outputs)


def error(found: np.ndarray, wanted: Any) -> float:
    """The largest relative error; of numbers that are no more than rounding itself, the absolute one."""
    scale = np.maximum(np.abs(wanted), np.finfo(found.dtype).tiny)
    return float(np.max(np.abs(found - wanted) / scale))


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_digits(name: str, dtype: str, workshop: Any) -> None:
    exact, interval = FUNCTIONS[name]
    x = places(*interval, dtype, seed=len(name))
    program = optimise(import_onnx(workshop.save(model_of(workshop, [name], dtype, x.size))).program)
    loops = lower(program)
    (found,) = run(loops, {loops.inputs[0]: x[None]}).values()
    assert error(found[0], exact(x.astype(np.longdouble))) < LIMITS[dtype]


@pytest.mark.parametrize("backend", ["c", "numba", "tvm"])
def test_back_ends(backend: str, workshop: Any) -> None:
    """One problem and several, which the C back end solves side by side."""
    names = list(FUNCTIONS)
    points = {name: places(*FUNCTIONS[name][1], "float32", seed=3) for name in names}
    n = min(x.size for x in points.values())
    rng = np.random.default_rng(8)
    inputs = [np.stack([rng.permutation(points[name])[:n] for _ in range(19)]) for name in names]
    path = workshop.save(model_of(workshop, names, "float32", n), f"functions_{backend}.onnx")
    solver = unfoldc.compile(path, backend=backend, cache=False)
    for count in (1, 19):
        results = solver(*(x[:count] for x in inputs))
        for name, x, found in zip(names, inputs, results, strict=True):
            wanted = FUNCTIONS[name][0](x[:count].astype(np.longdouble))
            assert error(np.asarray(found), wanted) < 3e-6, name


@pytest.mark.parametrize("backend", ["c", "numba", "tvm"])
def test_mod_of_any_sign_does_not_trap(backend: str, workshop: Any) -> None:
    g = workshop.Graph(opset=20)
    values = {"a": [7, -7, 5, 5, -(2**63), 6], "b": [3, 3, -3, 0, -1, 6]}
    ints = [g.input(name, "batch", 6, dtype="int64") for name in values]
    floats = [g.input(name, "batch", 6) for name in ("x", "y")]
    outputs = [g("Mod", *ints), g("Mod", *ints, fmod=1), g("Mod", *floats, fmod=1)]
    solver = unfoldc.compile(workshop.save(g.model(*outputs), f"mod_{backend}.onnx"), backend=backend, cache=False)
    rng = np.random.default_rng(4)
    x, y = rng.normal(0, 30, (9, 6)).astype(np.float32), rng.normal(0, 2, (9, 6)).astype(np.float32)
    arrays = [np.tile(np.array(v, np.int64), (9, 1)) for v in values.values()]
    down, cut, rest = (np.asarray(v) for v in solver(*arrays, x, y))
    assert (down == [1, 2, -1, 0, 0, 0]).all() and (cut == [1, -1, 2, 0, 0, 0]).all()
    np.testing.assert_array_equal(rest, np.fmod(x, y))
