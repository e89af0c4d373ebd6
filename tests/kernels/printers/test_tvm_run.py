"""The programs that back end `c` is tested with, through TVM: vectors, problems side by side, borders, NaN."""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.interpret_loops import run

pytest.importorskip("tvm")


def _load(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


build, borders, roots = _load("tvm_build"), _load("test_c_borders"), _load("test_vector_root")
# Beyond the ends of their ranges integers are defined in generated C only.
BEYOND = ("ends32", "ends64", "limits")
ALL = {n: c for n, c in _load("c_cases").all_cases().items() if not c.freestanding and n not in BEYOND}
ALL |= {name: borders.CASES[name] for name in ("image0", "image1", "image2")} | {"root": roots.CASES["root32"]}
# TVM reads a script slowly: these have all that is new here, vectors of both types, borders, shared inputs and scratch.
SAMPLE = ("lanes32", "peeled", "h64", "channel", "overlap", "complex", "gather", "image0", "image1", "root")
GROUPS = {"sample": SAMPLE, "others": tuple(n for n in ALL if n not in SAMPLE)}
WIDE = ("lanes32", "lanes64", "lista32", "lista64", "peeled", "single", "channel", "overlap", "h32", "h64", "wide")


@pytest.fixture(scope="session", params=["sample", pytest.param("others", marks=pytest.mark.slow)])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"tvm-{request.param}"
    folder.mkdir(exist_ok=True)
    return build.Library({name: ALL[name] for name in GROUPS[request.param]}, folder)


@cache
def expected(name: str, iterations: int) -> dict[str, np.ndarray]:
    return run(ALL[name].program, ALL[name].inputs, iterations)


def differs(name: str, got: np.ndarray, want: np.ndarray) -> str:
    tolerance = ALL[name].tolerance if got.dtype.kind == "f" else 0
    try:
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    except AssertionError as error:
        return str(error)
    return ""


def test_answers_equal_the_interpreters(library: Any) -> None:
    wrong = []
    for name, case in library.cases.items():
        inputs = {i: v if i in case.shared else v[None] for i, v in case.inputs.items()}
        first = 1 if not case.program.begin and case.program.steps[0].body else 0
        for k in range(first, case.program.iterations + 1):
            got = library.solve(name, inputs, 1, k)
            for output, want in expected(name, k).items():
                if text := differs(name, got[output][0], want):
                    wrong.append(f"{name}.{output} after {k} iterations: {text}")
    assert not wrong, "\n".join(wrong[:5])


def test_problems_side_by_side_are_solved_as_one_by_one(library: Any) -> None:
    rng = np.random.default_rng(7)
    for name in library.cases.keys() & set(WIDE):
        case, lanes = ALL[name], ALL[name].lanes
        assert f"{name}_lanes.c" in library.made[name][0]
        batch, k = 2 * lanes + 3, case.program.iterations
        inputs = {
            i: v
            if i in case.shared
            else np.array([rng.permutation(v.ravel()) for _ in range(batch)], v.dtype).reshape(batch, *v.shape)
            for i, v in case.inputs.items()
        }
        got = library.solve(name, inputs, batch, k)
        for p in range(batch):
            alone = {i: v if i in case.shared else v[p : p + 1] for i, v in inputs.items()}
            for output, want in library.solve(name, alone, 1, k).items():
                text = differs(name, got[output][p], want[0])
                assert not text, f"{name}.{output}, problem {p} of {batch}: {text}"


def test_no_root_is_further_off_than_a_unit_in_the_last_place(library: Any) -> None:
    """Where the processor's estimate is taken, too: every exponent, random fractions, and what is no number."""
    if "root" not in library.cases:
        pytest.skip("in the sample")
    rng = np.random.default_rng(5)
    bits = np.repeat(np.arange(1, 255, dtype=np.uint32) << np.uint32(23), 129)
    bits |= rng.integers(0, 1 << 23, bits.size, dtype=np.uint32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, -1e-30, 4.0], np.float32)
    x = np.resize(np.concatenate([special, bits.view(np.float32)]), 128 * roots.WIDTH)
    got = library.solve("root", {"x": x.reshape(-1, roots.WIDTH)}, x.size // roots.WIDTH, 1)["y"].ravel()
    with np.errstate(invalid="ignore"):
        right = np.sqrt(x.astype(np.float64))
    np.testing.assert_array_equal(got[:8], right[:8].astype(np.float32))
    units = np.abs(got[8:] - right[8:]) / np.spacing(right[8:].astype(np.float32))
    assert units.max() <= 1


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in ("floats32", "casts", "peeled"))) for n in ALL]
)
def test_a_script_is_read_as_tvm_reads_it(name: str) -> None:
    import tvm

    from unfoldc.targets.tvm_script import read_script

    script = build.sources(ALL[name], name)[0][f"{name}.tir"]
    tvm.ir.assert_structural_equal(read_script(script), tvm.script.from_source(script))


def test_a_program_without_a_form_for_several_problems_says_why() -> None:
    files, reason = build.sources(ALL["gather"], "gather")
    assert reason == "values of the types bool, float32, float64, int32, int64"
    assert "gather_lanes.c" not in files
