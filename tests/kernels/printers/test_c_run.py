"""Compiles the programs of c_cases.py and runs them: by zig with and without optimisation, sanitised, and by gcc."""

from __future__ import annotations

import ctypes
import importlib.util
import math
import os
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.printers.c_api import HOST_ALIGNMENT, state_layout


def _load(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


build = _load("c_build")
cases = build.load("c_cases")
ALL = cases.all_cases()
SIDE_BY_SIDE = (
    "lanes32",
    "lanes64",
    "lista32",
    "lista64",
    "wide",
    "peeled",
    "single",
    "channel",
    "overlap",
    "h32",
    "h64",
)


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Any:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "c-libraries"
    folder.mkdir(exist_ok=True)
    return cache(lambda variant: build.Library(ALL, variant, folder))


@cache
def expected(name: str, iterations: int) -> dict[str, np.ndarray]:
    return run(ALL[name].program, ALL[name].inputs, iterations)


def one_problem(name: str) -> dict[str, np.ndarray]:
    case = ALL[name]
    return {i: v if i in case.shared else v[None] for i, v in case.inputs.items()}


def problems(name: str, batch: int) -> dict[str, np.ndarray]:
    """Inputs that differ from problem to problem, but for the shared ones."""
    rng, made = np.random.default_rng(batch), {}
    for i, v in ALL[name].inputs.items():
        different = [rng.permutation(v.ravel()) for _ in range(batch)]
        made[i] = v if i in ALL[name].shared else np.array(different, v.dtype).reshape(batch, *v.shape)
    return made


def differs(name: str, got: np.ndarray, want: np.ndarray) -> str:
    """What is wrong, or nothing. Floats may be off relative to themselves, small ones relative to 1."""
    tolerance = ALL[name].tolerance if got.dtype.kind == "f" else 0
    try:
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    except AssertionError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("variant", build.VARIANTS)
def test_answers_equal_the_interpreters(libraries: Any, variant: str) -> None:
    library, wrong = libraries(variant), []
    for name, case in ALL.items():
        if name == "functions":
            continue
        first = 1 if not case.program.begin and case.program.steps[0].body else 0  # states are not set before
        for k in range(first, case.program.iterations + 1):
            got = library.solve(name, one_problem(name), 1, k)
            for output, want in expected(name, k).items():
                if text := differs(name, got[output][0], want):
                    wrong.append(f"{name}.{output} after {k} iterations: {text}")
    assert not wrong, "\n".join(wrong[:5])


@pytest.mark.parametrize("variant", ["O3", "O0", "sanitized"])
def test_problems_side_by_side_are_solved_as_one_by_one(libraries: Any, variant: str) -> None:
    library = libraries(variant)
    for name in SIDE_BY_SIDE:
        case, lanes = ALL[name], ALL[name].lanes
        assert f"{name}_lanes.c" in case.sources(name)[0]
        for batch in (0, 1, lanes - 1, lanes, lanes + 1, 3 * lanes + 5):
            inputs = problems(name, batch)
            for k in sorted({1, case.program.iterations}):
                got = library.solve(name, inputs, batch, k)
                for p in range(batch):
                    alone = {i: v if i in case.shared else v[p : p + 1] for i, v in inputs.items()}
                    want = library.solve(name, alone, 1, k)
                    for output in want:
                        text = differs(name, got[output][p], want[output][0])
                        assert not text, f"{name}.{output}, problem {p} of {batch}, {k} iterations: {text}"


def test_half_of_a_symmetric_matrix_is_read() -> None:
    for name, rows in (("h32", 16), ("h64", 4)):
        read = [b for b in ALL[name].scheduled.buffers if b.startswith("W2_half")]
        text = ALL[name].sources(name)[0][f"{name}.c"]
        assert read and all(f"{name}_{b}[" in text for b in read) and f"{name}_W2[" not in text
        assert f"sums_of_{rows}_" in text


def test_programs_without_a_vector_form_say_why() -> None:
    reasons = {name: case.sources(name)[1] for name, case in ALL.items() if not case.freestanding}
    assert all(bool(reason) == (name not in SIDE_BY_SIDE) for name, reason in reasons.items())
    assert reasons["gather"] == "values of the types bool, float32, float64, int32, int64"
    assert "gather_lanes.c" not in ALL["gather"].sources("gather")[0]


def test_iterations_beyond_the_last_do_nothing(libraries: Any) -> None:
    for name in ("lista32", "peeled", "channel", "single"):
        k = ALL[name].program.iterations
        for batch in (1, build.LANES):
            want = libraries("O3").solve(name, problems(name, batch), batch, k)
            got = libraries("O3").solve(name, problems(name, batch), batch, k + 3)
            for output in want:
                np.testing.assert_array_equal(got[output], want[output])


def test_solve_runs_all_iterations(libraries: Any) -> None:
    """The C call without early stop; a state may be used again."""
    library = libraries("O3")
    loaded = ctypes.CDLL(str(library.path))
    for name in ("lista32", "peeled", "channel"):
        case = ALL[name]
        memory = np.full(loaded[f"{name}_size"]() + 64, 0xFF, np.uint8)
        outputs = library.empty(name, 1)
        arrays = [*case.inputs.values(), *outputs.values()]
        for _ in range(2):
            loaded[f"{name}_solve"](
                ctypes.c_void_p(memory.ctypes.data + -memory.ctypes.data % 64),
                *(ctypes.c_void_p(a.ctypes.data) for a in arrays),
            )
            for output, want in expected(name, case.program.iterations).items():
                assert not differs(name, outputs[output][0], want)


def test_profile_gives_the_same_answers_and_the_ticks_of_the_parts_that_ran(libraries: Any) -> None:
    library = libraries("O3")
    for name, batch in (("lista32", 1), ("peeled", 3), ("lista32", 3 * build.LANES + 2)):
        k = ALL[name].program.iterations
        engine, inputs = library.engine(name), problems(name, batch)
        want, got, ticks = (
            library.solve(name, inputs, batch, k - 1),
            library.empty(name, batch),
            np.zeros(k + 2, np.uint64),
        )
        now = ctypes.CDLL(str(library.path))[f"{name}_host_ticks"]
        now.restype = ctypes.c_uint64
        before = now()
        engine.profile(list(inputs.values()), list(got.values()), batch, k - 1, ticks)
        assert 0 < int(ticks.sum()) <= now() - before
        for output in want:
            np.testing.assert_array_equal(got[output], want[output])
        assert (ticks[:k] > 0).all() and ticks[k] == 0 and ticks[k + 1] > 0
        once = ticks.copy()
        engine.profile(list(inputs.values()), list(got.values()), batch, k, ticks)
        assert (ticks > once).all()
        longer = np.zeros(k + 9, np.uint64)
        engine.profile(list(inputs.values()), list(got.values()), batch, k + 5, longer)
        assert not longer[k + 2 :].any()


def test_threads_with_their_own_state_give_the_same_bits(libraries: Any) -> None:
    library, batch = libraries("O3"), 3 * build.LANES + 1
    inputs = [problems("lista32", batch), {"y": problems("lista32", batch)["y"][::-1].copy()}]
    want = [library.solve("lista32", i, batch, 4)["x"] for i in inputs]
    got: list[list[np.ndarray]] = [[], []]

    def work(t: int) -> None:
        for _ in range(200):
            got[t].append(library.solve("lista32", inputs[t], batch, 4)["x"])

    threads = [threading.Thread(target=work, args=(t,)) for t in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for t in range(2):
        assert len(got[t]) == 200 and all((x == want[t]).all() for x in got[t])


def test_the_state_is_as_large_as_the_layout_says(libraries: Any) -> None:
    loaded = ctypes.CDLL(str(libraries("O3").path))
    for name, case in ALL.items():
        layout = state_layout(case.scheduled, 1 if case.freestanding else HOST_ALIGNMENT)
        assert loaded[f"{name}_size"]() == layout.bytes(8), name


def test_an_index_from_data_never_leaves_its_array(libraries: Any) -> None:
    """Indices that a model must not have, under a sanitizer that stops at the first access outside."""
    library = libraries("sanitized")
    for row in (-(2**62), -1, 3, 4, 2**31, 2**62):
        inputs = one_problem("gather") | {"rows": np.full((1, 3), row, "int64")}
        got = library.solve("gather", inputs, 1, 3)
        assert np.isfinite(got["turned"]).all()


@pytest.mark.parametrize("variant", ["O3", "O0"])
def test_functions_for_bare_metal_are_as_accurate_as_they_say(libraries: Any, variant: str) -> None:
    x, y = (ALL["functions"].inputs[i].astype("float64") for i in "xy")
    got = {name: v[0] for name, v in libraries(variant).solve("functions", one_problem("functions"), 1, 1).items()}
    want = {
        "r_tanh": np.tanh(x),
        "r_erf": np.vectorize(math.erf)(x),
        "r_round": np.rint(x),
        "r_floor": np.floor(x),
        "r_square": x * x,
    }
    with np.errstate(all="ignore"):
        want |= {"r_exp": np.exp(x), "r_pow": x**y}
        for name, value in want.items():
            rounded = value.astype("float32")
            size = np.maximum(np.abs(rounded), np.finfo("float32").tiny)
            error = np.where(rounded == got[name], 0, np.abs(got[name] - rounded.astype("float64")) / size)
            both = np.isnan(rounded) & np.isnan(got[name])
            # Next to the largest float one of the two may be infinite.
            edge = np.abs(value) > 0.999999 * np.finfo("float32").max
            # The driver lets subnormal numbers count as zero.
            numbers = (x, y, rounded)
            flushed = np.any([(v != 0) & (np.abs(v) < np.finfo("float32").tiny) for v in numbers], axis=0)
            worst = np.where(both | edge | flushed, 0, error)
            i = int(np.argmax(np.nan_to_num(worst, nan=np.inf)))
            assert worst[i] <= 1e-6, f"{name} of {x[i]}, {y[i]}: {got[name][i]}, not {value[i]}"
