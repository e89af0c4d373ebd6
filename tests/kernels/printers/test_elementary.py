"""exp, log, tanh and erf of C for the host and of Numba: their largest error, special values, loops as vector code."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.loops import Const, Expr, Unary
from unfoldc.kernels.printers.elementary import FUNCTIONS
from unfoldc.kernels.printers.numba_cpu.elementary import elementary_text
from unfoldc.kernels.printers.numba_cpu.prelude import PRELUDE
from unfoldc.targets.toolchains import C99, FAST_MATH, OPTIMISE, UNPACKED, run_compiler


def _load(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


build = _load("c_build")
binary = build.programs.binary
WIDTH = 1024
NAMES = ("exp", "log", "tanh", "erf")
# In units in the last place; the table in `elementary.py` states these.
LIMITS = {"exp": 2.0, "log": 2.0, "tanh": 4.0, "erf": 4.0}
# A result below this may be 0.
LEAST = {"float32": 1.7e-38, "float64": 3.2e-308}
VARIANTS = [v for v in ("O3", "O0", "gcc") if v in build.VARIANTS]  # O0 multiplies and adds apart
DTYPES = ("float32", "float64")


def results(dtype: str) -> Mapping[str, Callable[..., Expr]]:
    """Each function alone, and where the compiler may mix its sums and products with those around."""
    made: dict[str, Callable[..., Expr]] = {o: lambda x, o=o: Unary(o, x, dtype) for o in NAMES}
    far, tiny = Const(4096.0, dtype), Const(1e-10, dtype)
    made["exp_of_difference"] = lambda x: Unary("exp", binary("sub", binary("add", x, far), far), dtype)
    made["exp_times_tiny"] = lambda x: binary("mul", Unary("exp", x, dtype), tiny)
    made["log_plus"] = lambda x: binary("add", Unary("log", x, dtype), Const(2.5, dtype))
    return made


def case(dtype: str, lanes: int) -> Any:
    x = np.zeros(WIDTH, dtype)
    return replace(build.Case(build.elementwise({"x": x}, results(dtype)), {"x": x}), lanes=lanes)


CASES = {f"{form}_{dtype}": case(dtype, n) for dtype in DTYPES for form, n in (("loop", 1), ("lanes", build.LANES))}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Any:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "elementary"
    folder.mkdir(exist_ok=True)
    return cache(lambda variant: build.Library(CASES, variant, folder))


def values(library: Any, name: str, x: np.ndarray) -> dict[str, np.ndarray]:
    """The results at all x, whose number is a multiple of WIDTH and of the lanes."""
    assert x.size % (WIDTH * build.LANES) == 0
    got = library.solve(name, {"x": x.reshape(-1, WIDTH)}, x.size // WIDTH, 1)
    return {result: value.ravel() for result, value in got.items()}


@cache
def points(dtype: str) -> np.ndarray:
    """Each exponent with random fractions, numbers that are not normal among them, and more where results change."""
    rng, word = np.random.default_rng(11), np.dtype(f"u{np.dtype(dtype).itemsize}")
    info = np.finfo(dtype)
    exponents = 1 << info.bits - 1 - info.nmant
    step = max(1, exponents // 256)
    bits = np.repeat(np.arange(0, exponents - 1, step, dtype=word) << word.type(info.nmant), 60)
    bits |= rng.integers(0, 1 << info.nmant, bits.size, dtype=word)
    edge = abs(math.log(info.tiny)) + 4
    parts = [
        bits.view(dtype) * rng.choice([-1, 1], bits.size),
        rng.uniform(-edge, edge, 10_000),
        1 + rng.normal(0, 0.2, 10_000),
        rng.normal(0, 2, 10_000),
        10 ** rng.uniform(-6, 1, 10_000) * rng.choice([-1, 1], 10_000),
        # Their logarithms lie below a power of two, where the last place is worth least.
        np.exp(2.0 ** rng.integers(-2, 7, 20_000)) * (1 - rng.uniform(0, 0.05, 20_000)),
    ]
    every = np.concatenate(parts).astype(dtype)
    made = np.resize(every, -(-every.size // (WIDTH * build.LANES)) * WIDTH * build.LANES)
    made.flags.writeable = False
    return made


@cache
def right(name: str, dtype: str) -> np.ndarray:
    """The function at all points, in more digits where NumPy has them: erf in float64 is good to one unit itself."""
    x = points(dtype)
    if name == "erf":
        return np.vectorize(math.erf)(x.astype("float64"))  # type: ignore[no-any-return]
    wide = x.astype("float64" if dtype == "float32" else "longdouble")
    with np.errstate(all="ignore"):
        return np.asarray(getattr(np, name)(wide))


def error(got: np.ndarray, want: np.ndarray, dtype: str) -> np.ndarray:
    """|got - want| in units in the last place of the wanted number; infinite where only one is NaN or infinite."""
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        rounded = want.astype(dtype)
        last = np.ldexp(
            np.ones((), want.dtype), np.maximum(np.frexp(want)[1] - info.nmant - 1, info.minexp - info.nmant)
        )
        units = np.abs(got.astype(want.dtype) - want) / last
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        flushed = (got == 0) & (np.abs(want) < LEAST[dtype])
        # Beside the largest number one of the two may be infinite.
        edge = (np.abs(want) > 0.999999 * info.max) & (np.abs(got) > 0.999999 * info.max)
        lost = ~np.isfinite(rounded) | ~np.isfinite(got)
    return np.where(
        same | edge | flushed, np.where(same & np.isfinite(units), units, 0.0), np.where(lost, np.inf, units)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["loop", "lanes"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_result_is_further_off_than_stated(libraries: Any, variant: str, form: str, dtype: str) -> None:
    x = points(dtype)
    subnormal = np.abs(x) < np.finfo(dtype).tiny  # these count as 0 in the driver
    got = values(libraries(variant), f"{form}_{dtype}", x)
    for name, limit in LIMITS.items():
        units = np.where(subnormal, 0, error(got[name], right(name, dtype), dtype))
        i = int(np.argmax(units))
        assert units[i] <= limit, f"{name} of {x[i]!r}: {got[name][i]!r}, {units[i]:.2f} units off"
    for name in ("tanh", "erf"):
        assert np.nanmax(np.abs(got[name])) == 1
    assert (form == "lanes") == (f"{form}_{dtype}_lanes.c" in CASES[f"{form}_{dtype}"].sources(f"{form}_{dtype}")[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["loop", "lanes"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_infinities_zeros_and_nan_keep_their_meaning(libraries: Any, variant: str, form: str, dtype: str) -> None:
    inf, nan, tiny = np.inf, np.nan, np.finfo(dtype).tiny
    x = [nan, -nan, inf, -inf, 0.0, -0.0, -1.0, -tiny, np.finfo(dtype).max, np.finfo(dtype).min, 1.0]
    padded = np.resize(np.array(x, dtype), WIDTH * build.LANES)
    got = {n: v[: len(x)] for n, v in values(libraries(variant), f"{form}_{dtype}", padded).items()}
    want = {
        "exp": [nan, nan, inf, 0, 1, 1, got["exp"][6], 1, inf, 0, got["exp"][10]],
        "log": [nan, nan, inf, nan, -inf, -inf, nan, nan, got["log"][8], nan, 0],
        "tanh": [nan, nan, 1, -1, 0, 0, got["tanh"][6], -tiny, 1, -1, got["tanh"][10]],
        "erf": [nan, nan, 1, -1, 0, 0, got["erf"][6], got["erf"][7], 1, -1, got["erf"][10]],
        # What has overflowed stays so, though the product would be finite.
        "exp_times_tiny": [nan, nan, inf, 0, 1e-10, 1e-10, got["exp_times_tiny"][6], 1e-10, inf, 0, 1e-10 * math.e],
    }
    for name, value in want.items():
        np.testing.assert_allclose(got[name], np.array(value, dtype), rtol=1e-6, atol=0, err_msg=name)
    beyond = np.full(WIDTH * build.LANES, 100 if dtype == "float32" else 720, dtype)
    assert np.isinf(values(libraries(variant), f"{form}_{dtype}", beyond)["exp_times_tiny"]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_sums_around_a_function_are_not_mixed_with_those_inside(libraries: Any, variant: str, dtype: str) -> None:
    x = np.random.default_rng(3).uniform(-3, 3, WIDTH * build.LANES).astype(dtype)
    for form in ("loop", "lanes"):
        got = values(libraries(variant), f"{form}_{dtype}", x)
        # The sum may be carried out or not, but nothing else may be lost.
        near = [np.exp((x + shift) - shift) for shift in (x.dtype.type(0), x.dtype.type(4096))]
        off = np.minimum(*(np.abs(got["exp_of_difference"] - n) / n for n in near))
        assert off.max() < 8 * np.finfo(dtype).eps
        positive = x > 0
        plus = np.log(x[positive].astype("longdouble")) + 2.5
        assert np.abs(got["log_plus"][positive] - plus).max() < 4 * np.finfo(dtype).eps * np.abs(plus).max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_numba_computes_the_same(dtype: str) -> None:
    """Errors, special values and vector code."""
    given: dict[str, Any] = {}
    exec("\n\n".join([PRELUDE, *elementary_text(FUNCTIONS)]), given)
    special = [np.nan, np.inf, -np.inf, 0, -1, np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max]
    x = np.concatenate([points(dtype), np.array(special, dtype)])
    with np.errstate(all="ignore"):
        last = {name: [getattr(np if name != "erf" else math, name)(v) for v in special] for name in NAMES}
    loops = [f"    for i in range(x.size):\n        y[{k}, i] = {name}_{dtype}(x[i])\n" for k, name in enumerate(NAMES)]
    exec(f"@njit(**OPTIONS)\ndef compute(x, y):\n{''.join(loops)}", given)
    got = np.empty((len(NAMES), x.size), dtype)
    given["compute"](x, got)
    for k, name in enumerate(NAMES):
        units = error(got[k], np.concatenate([right(name, dtype), last[name]]), dtype)
        i = int(np.argmax(units))
        assert units[i] <= LIMITS[name], f"{name} of {x[i]!r}: {got[k, i]!r}, {units[i]:.2f} units off"
    (code,) = given["compute"].inspect_llvm().values()
    assert len(re.findall(r"^vector\.body\d*:", code, re.M)) == len(NAMES)


def test_the_compiler_makes_vectors_of_a_loop(tmp_path: Path) -> None:
    """In the compiler's own language, before it depends on the processor; a call would leave the loop as it is."""
    for name, dtype in sorted(FUNCTIONS):
        x = np.zeros(WIDTH, dtype)
        program = build.elementwise({"x": x}, {"y": lambda x, name=name, dtype=dtype: Unary(name, x, dtype)})
        one = replace(build.Case(program, {"x": x}), lanes=1)
        for file, text in one.sources(f"{name}_{dtype}")[0].items():
            (tmp_path / file).write_text(text)
    files = [f"{name}_{dtype}.c" for name, dtype in sorted(FUNCTIONS)]
    (tmp_path / "all.c").write_text("".join(f'#include "{file}"\n' for file in files))
    flags = [*OPTIMISE, *FAST_MATH, *UNPACKED, *C99, "-mcpu=native", "-S", "-emit-llvm"]
    run_compiler([*flags, "all.c", "-o", "all.ll"], tmp_path, "test of vector code")
    parts = re.split(r"^define .*?@(\w+)\(", (tmp_path / "all.ll").read_text(), flags=re.M)
    code = dict(zip(parts[1::2], parts[2::2], strict=True))
    for name, dtype in sorted(FUNCTIONS):
        body = code[f"{name}_{dtype}_iterate"]
        assert re.search(rf"f(mul|div) [a-z ]*<\d+ x {'float' if dtype == 'float32' else 'double'}>", body), name
        assert not re.search(r"call .*@(exp|log|tanh|erf)f?\(", body), name
