"""Vectors at the borders of images: elements that stop at the last place, and choose by where they are."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.passes.fuse_rows import fuse_rows
from unfoldc.kernels.passes.plan_memory import plan_memory
from unfoldc.kernels.passes.split_ranges import split_ranges
from unfoldc.kernels.passes.vector_axis import Layouts
from unfoldc.kernels.passes.vector_results import vector_results


def _load(name: str, folder: Path) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


HERE = Path(__file__).parent
build = _load("c_build", HERE)
stencils = _load("random_stencils", HERE.parent)
SEEDS = range(6)


def case(seed: int) -> Any:
    dtype = ("float32", "float64")[seed % 2]
    plain = stencils.Stencils(seed, dtype).program()
    rows = plain.mapped(lambda body: fuse_rows(body, plain.buffers, cache=0))
    layouts, bits = Layouts(rows), (128, 256, 512)[seed % 3]
    split = rows.mapped(lambda body: split_ranges(body, layouts, bits))
    image = np.random.default_rng(seed).standard_normal(plain.buffers["x"].shape).astype(dtype)
    image[2, 1] = np.nan
    found = build.Case(plain, {"x": image})
    object.__setattr__(found, "scheduled", plan_memory(vector_results(split, bits, 6), 64))
    return found


CASES = {f"image{seed}": case(seed) for seed in SEEDS}


@pytest.mark.parametrize(
    "variant", [pytest.param(v, marks=[pytest.mark.slow] * (v in ("O0", "gcc"))) for v in build.VARIANTS]
)
def test_images_are_those_of_the_plain_loops(variant: str, tmp_path: Path) -> None:
    library = build.Library(CASES, variant, tmp_path)
    for name, own in CASES.items():
        want = run(own.program, own.inputs)["out"]
        got = library.solve(name, {"x": own.inputs["x"][None]}, 1, own.program.iterations)["out"][0]
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6, err_msg=name)


def test_masks_and_exchanges_of_both_types_occur() -> None:
    text = "".join(own.sources(name)[0][f"{name}.c"] for name, own in CASES.items())
    for kind in (r"m32\){0, 1", r"m64\){0, 1", r"exchange_\d+_on_1_.*float32_v", r"exchange_\d+_back_1_.*float64_v"):
        assert re.search(kind, text), kind
