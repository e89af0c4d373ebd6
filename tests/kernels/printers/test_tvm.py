from __future__ import annotations

import importlib.util
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.errors import ToolError
from unfoldc.kernels import build
from unfoldc.kernels.artifact import Artifact
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Buffer, For, Let, Load, Local, LoopProgram, Step, Store
from unfoldc.kernels.passes.plan_memory import plan_memory
from unfoldc.kernels.printers.tvm import tvm_sources
from unfoldc.runtime.engine_library import LibraryEngine
from unfoldc.targets.toolchains import STRICT
from unfoldc.targets.tvm_build import build_objects, build_tvm_library


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = _load(Path(__file__).with_name("loop_programs.py"))
GOLDEN = Path(__file__).parents[1] / "golden" / "lista_tvm.txt"
needs_tvm = pytest.mark.skipif(importlib.util.find_spec("tvm") is None, reason="apache-tvm is not installed")


def artifact(program: LoopProgram) -> Artifact:
    inputs, outputs = (programs.ports(program, names) for names in (program.inputs, program.outputs))
    sources, _ = tvm_sources("solver", program, inputs, outputs, host=True)
    made: Artifact = programs.artifact(program, "tvm", sources)
    return made


def agree(program: LoopProgram, inputs: dict[str, np.ndarray], folder: Path, rtol: float = 0, atol: float = 0) -> None:
    """The built library against the interpreter, for every number of iterations, without a warning from C."""
    library = build_tvm_library(artifact(program), folder, flags=STRICT)
    assert [p.name for p in folder.iterdir()] == ["solver.so"]
    solver = LibraryEngine(artifact(program), library)
    for k in range(program.iterations + 1):
        want = run(program, inputs, k)
        outputs = [np.empty((1, *program.buffers[o].shape), program.buffers[o].dtype) for o in program.outputs]
        solver.solve([inputs[name][None] for name in program.inputs], outputs, 1, k)
        for name, got in zip(program.outputs, outputs, strict=True):
            np.testing.assert_allclose(got[0], want[name], err_msg=f"{name}, {k} iterations", rtol=rtol, atol=atol)


def test_the_sources_are_the_golden_file() -> None:
    sources = artifact(programs.lista(peeled=True)).sources
    text = "\n".join(f"==> {name} <==\n{sources[name]}" for name in ("solver.tir", "solver.c"))
    if os.environ.get("UNFOLDC_UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
    assert set(sources) == {
        "solver.tir",
        "solver.h",
        "solver.c",
        "solver_weights.h",
        "solver_weights.c",
        "solver_host.c",
    }


def test_the_script_depends_on_the_program_alone() -> None:
    program = programs.lista()
    turned = replace(program, buffers=dict(reversed(program.buffers.items())))
    assert artifact(turned).sources["solver.tir"] == artifact(program).sources["solver.tir"]


@needs_tvm
@pytest.mark.parametrize(("dtype", "peeled"), [("float32", False), ("float64", True)])
def test_every_number_of_iterations(dtype: str, peeled: bool, tmp_path: Path) -> None:
    y = np.random.default_rng(0).normal(size=5).astype(dtype)
    agree(programs.lista(dtype, peeled), {"y": y}, tmp_path, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-7)


@needs_tvm
def test_names_axes_types_and_several_ports(tmp_path: Path) -> None:
    program, inputs = programs.awkward()
    agree(plan_memory(program), inputs, tmp_path, rtol=1e-6)


@needs_tvm
def test_no_index_leads_outside_an_array(tmp_path: Path) -> None:
    program, inputs, want = programs.gather()
    solver = LibraryEngine(artifact(program), build_tvm_library(artifact(program), tmp_path))
    x = np.empty((1, 5), np.float32)
    solver.solve([inputs[name][None] for name in program.inputs], [x], 1, 1)
    np.testing.assert_array_equal(x[0], want)


@needs_tvm
def test_scratch_buffers_in_the_same_place(tmp_path: Path) -> None:
    program, inputs = programs.overlaid()
    script = artifact(program).sources["solver.tir"]  # pointers are said not to overlap
    assert set(re.findall("(?:early|kept|late|apart)_data", script)) == {"early_data", "apart_data"}
    agree(program, inputs, tmp_path)


@needs_tvm
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float_operators_keep_nan_and_infinity(dtype: str, tmp_path: Path) -> None:
    program, inputs = programs.float_operators(dtype)
    agree(program, inputs, tmp_path, rtol=2e-6 if dtype == "float32" else 1e-14, atol=1e-30)


@needs_tvm
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integer_operators(dtype: str, tmp_path: Path) -> None:
    program, inputs = programs.integer_operators(dtype)
    agree(program, inputs, tmp_path)


@needs_tvm
def test_casts(tmp_path: Path) -> None:
    program, inputs = programs.casts(("bool", "float32", "float64", "int32", "int64"))
    agree(program, inputs, tmp_path)


@needs_tvm
def test_products_with_chosen_numbers(tmp_path: Path) -> None:
    """Huber's weights, in one nest: TVM 0.27 itself refuses the product of such a scalar with a flag."""
    kinds = {"a": "float64", "b": "float64", "w": "float64", "flag": "bool", "x": "float64"}
    a, b, w, flag = (Load(n, (programs.var("i"),), kinds[n]) for n in ("a", "b", "w", "flag"))
    t, small, chosen, kept = (
        Local(n, d) for n, d in (("t", "float64"), ("s", "bool"), ("c", "float64"), ("f", "float64"))
    )
    scaled = Local("v", "float64")
    body = (
        Let("t", build.sub(a, b)),
        Let("m", build.unary("abs", t)),
        Let("s", build.binary("le", Local("m", "float64"), w)),
        Let("v", build.mul(w, b)),
        Let("c", build.select(small, t, scaled)),
        Let("f", build.cast(flag, "float64")),
        Let("p", build.mul(chosen, kept)),
        Store("x", (programs.var("i"),), Local("p", "float64")),
    )
    buffers = {n: Buffer(n, kind, (8,), "output" if n == "x" else "input") for n, kind in kinds.items()}
    loop = For("i", 8, body)
    program = LoopProgram(buffers, {}, ("a", "b", "w", "flag"), ("x",), (), (Step(0, 1, ()),), (loop,))
    rng = np.random.default_rng(3)
    inputs = {n: rng.standard_normal(8) if n != "flag" else rng.random(8) < 0.5 for n in program.inputs}
    agree(program, inputs, tmp_path, rtol=1e-14)


@needs_tvm
def test_an_answer_that_depends_on_nothing(tmp_path: Path) -> None:
    program = programs.elementwise({"a": ("float32", 3)}, {"x": lambda a: programs.const(2.0, "float32")}, 3)
    agree(program, {"a": np.zeros(3, np.float32)}, tmp_path)


@needs_tvm
def test_a_script_that_tvm_refuses_ends_in_one_paragraph_and_no_file(tmp_path: Path) -> None:
    whole = artifact(programs.lista())
    broken = dict(whole.sources) | {"solver.tir": whole.sources["solver.tir"].replace("T.abs(", "T.missing(")}
    with pytest.raises(ToolError, match=r"^building solver with TVM: TVM refuses solver.tir: .*use backend='c'\.$"):
        build_tvm_library(replace(whole, sources=broken), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_device_without_its_core_is_refused(tmp_path: Path) -> None:
    m4 = replace(programs.HOST, name="cortex-m4")
    with pytest.raises(ToolError, match=r"the target cortex-m4 without its core; allowed: .*or a core to build for"):
        build_objects(replace(artifact(programs.lista()), target=m4), tmp_path)


def test_without_tvm_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tvm", None)
    with pytest.raises(ToolError, match=r"^building solver with TVM: TVM cannot be imported .*pip install apache-tvm`"):
        build_objects(artifact(programs.lista()), tmp_path)
