"""What all back ends with a C interface share: literals, weights, the header, and the layout of the state."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.loops import Buffer, LoopProgram
from unfoldc.kernels.printers.c_api import (
    HOST_ALIGNMENT,
    StateLayout,
    header_text,
    host_driver_text,
    state_layout,
    weights_texts,
)
from unfoldc.kernels.printers.c_api.header import prototypes
from unfoldc.kernels.printers.c_api.text import C_TYPES, comment, number, wrap
from unfoldc.targets import find_target
from unfoldc.targets.toolchains import FAST_MATH, OPTIMISE, run_compiler


def _load(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


build = _load("c_build")
cases = build.load("c_cases")
THUMB = (*find_target("cortex-m4").flags, *OPTIMISE, *FAST_MATH)


def awkward_numbers(dtype: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if not dtype.startswith("float"):
        ends = [np.iinfo(dtype).min, np.iinfo(dtype).max] if dtype != "bool" else [False, True]
        return np.array([*ends, 0, 1, *([-1, -7] if dtype != "bool" else [])], dtype)
    info = np.finfo(dtype)
    bits = rng.integers(0, 2 ** (8 * info.dtype.itemsize), 500, dtype=f"uint{8 * info.dtype.itemsize}")
    special = [0, -0.0, 1, -1.5, 1 / 3, info.max, info.min, info.tiny, info.smallest_subnormal, 1e16, 123456789, np.inf]
    special += [-np.inf, np.nan, -info.smallest_subnormal, info.tiny * (1 - info.eps), 2**24 + 1, 1e22, 5e-7]
    return np.concatenate([np.array(special, dtype), bits.view(dtype), rng.normal(size=500).astype(dtype)])


def test_weights_read_back_to_the_bit(tmp_path: Path) -> None:
    constants = {f"{dtype}_w": awkward_numbers(dtype) for dtype in C_TYPES}
    constants |= {"none": np.zeros((0, 3), "float32"), "scalar": np.array(0.1, "float32")}
    constants["smooth"] = np.linspace(-1, 1, 1001, dtype="float32").reshape(7, 143)  # the fast way of printing
    program = LoopProgram({}, constants, (), (), (), (), ())
    for alignment in (1, HOST_ALIGNMENT):
        for name, text in weights_texts("s", program, alignment).items():
            (tmp_path / name).write_text(text)
        flags = [*build.WARNINGS, "-O3", "-mcpu=native", "-shared", "-fPIC"]
        library = f"weights{alignment}.so"
        run_compiler([*flags, "s_weights.c", "-o", library], tmp_path, "test weights")
        loaded = ctypes.CDLL(str(tmp_path / library))
        for name, value in constants.items():
            raw = (ctypes.c_char * max(value.itemsize, value.nbytes)).in_dll(loaded, f"s_{name}")
            got = np.frombuffer(bytes(raw), value.dtype)[: value.size].reshape(value.shape)
            bits = "u1" if value.dtype == bool else f"u{value.itemsize}"
            assert ((got.view(bits) == value.view(bits)) | ((got != got) & (value != value))).all(), name
            assert ctypes.addressof(raw) % alignment == 0
    assert "/* 7 x 143 */" in (tmp_path / "s_weights.h").read_text()


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        (0.1, "float32", "0.1f"), (-2.0, "float32", "-2.0f"), (1e-45, "float32", "1e-45f"), (0.1, "float64", "0.1"),
        (3e8, "float32", "3e+08f"), (1e22, "float64", "1e+22"), (float("-inf"), "float32", "-__builtin_inff()"),
        (float("nan"), "float64", '__builtin_nan("")'), (True, "bool", "1"), (0, "bool", "0"), (-5, "int32", "-5"),
        (-(2**31), "int32", "INT32_MIN"), (-(2**63), "int64", "INT64_MIN"), (-5, "int64", "-INT64_C(5)"),
    ],
)  # fmt: skip
def test_literals(value: float, dtype: str, text: str) -> None:
    assert number(value, dtype) == text


def test_comments_name_nodes_and_nothing_else() -> None:
    assert comment(()) == []
    assert comment(("a/b (MatMul)", "c")) == ["/* from a_b MatMul, c */"]
    assert comment(('*/ #error "x"\n (Add)',)) == ["/* from ____error__x__ Add */"]
    assert comment(("n" * 99 + " (Op)",)) == [f"/* from {'n' * 40} Op */"]
    many = comment(tuple(f"a_long_name_of_a_node_{i} (Operator)" for i in range(9)))
    assert many[-1].endswith(" and 3 more */") and all(len(line) <= 90 for line in many) and len(many) > 1


def test_lines_are_broken_outside_brackets_and_between_sums_first() -> None:
    term = "weights[i * 143 + j] * state[j]"
    assert wrap(f"    short = {term};") == [f"    short = {term};"]
    assert wrap(f"    acc = {' + '.join([term] * 4)};") == [
        f"    acc = {term} + {term} + {term}",
        f"            + {term};",
    ]
    call = f"    x = function({', '.join([term] * 4)});"
    assert " ".join(line.strip() for line in wrap(call)) == call.strip()
    assert all(len(line) <= 110 for line in wrap(call))
    assert wrap("x" * 200) == ["x" * 200]


def test_headers_work_in_cpp(tmp_path: Path) -> None:
    lines = []
    for name, case in cases.all_cases().items():
        if name == "awkward":  # has a buffer called `not`, which C++ reserves; the compiler calls none so
            continue
        (tmp_path / f"{name}.h").write_text(case.sources(name)[0][f"{name}.h"])
        lines += [f'#include "{name}.h"', f'#include "{name}.h"', f"{name}_state state_{name};"]
    lines += ["void both(const float y[5], float x[27]);"]
    lines += ["void both(const float y[5], float x[27]) { lista32_solve(&state_lista32, y, x); }"]
    (tmp_path / "use.cpp").write_text("\n".join([*lines, ""]))
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-c", "use.cpp", "-o"]
    run_compiler([*flags, "use.o"], tmp_path, "test header")
    if shutil.which("g++"):
        subprocess.run(["g++", *flags, "gpp.o"], cwd=tmp_path, check=True)


def test_sources_are_clean_for_a_microcontroller_and_states_as_large_as_said(tmp_path: Path) -> None:
    """Every program, strictly checked; a wrong size is an array of negative length."""
    units = []
    for name, case in cases.all_cases().items():
        embedded = replace(case, spec=build.M4, freestanding=True)
        size = state_layout(embedded.scheduled).bytes(4)
        unit = embedded.write(name, tmp_path).replace("_unit", "_embedded")
        includes = f'#include "{name}.c"\n#include "{name}_weights.c"\n'
        (tmp_path / unit).write_text(f"{includes}typedef char size[(sizeof({name}_state) == {size}) ? 1 : -1];\n")
        units.append(unit)
    run_compiler([*build.WARNINGS, *THUMB, "-ffreestanding", "-c", *units], tmp_path, "test microcontroller")
    text = (tmp_path / "floats32.c").read_text() + (tmp_path / "floats32.h").read_text()
    assert "#include <" not in text.replace("#include <stdint.h>", "") and "__attribute__" not in text


def test_layout_counts_padding() -> None:
    layout = StateLayout(("y",), (("b", "bool", 3), ("x", "float64", 2), ("t", "float32", 1)), {}, False)
    assert layout.bytes(4) == 4 + 4 + (3 + 5) + 16 + (4 + 4) and layout.bytes(8) == (4 + 4) + 8 + (3 + 5) + 16 + 8
    assert StateLayout((), (), {}, False).bytes() == 4
    assert StateLayout((), (("none", "float32", 0),), {}, False).bytes() == 8


def test_aligned_states_have_aligned_arrays() -> None:
    case = cases.lista_case("float32", n=27)
    layout = state_layout(case.scheduled, HOST_ALIGNMENT)
    assert layout.arrays_first and all(4 * n % HOST_ALIGNMENT == 0 for _, _, n in layout.arrays)
    assert all(offset * 4 % HOST_ALIGNMENT == 0 for _, offset in layout.scratch.values())
    assert layout.bytes(8) == sum(4 * n for _, _, n in layout.arrays) + 4
    small = state_layout(replace(case, spec=build.M4).scheduled)
    assert not small.arrays_first and small.bytes() == 4 + 4 * 27 * 3


def test_only_inputs_that_are_read_again_are_kept() -> None:
    assert state_layout(cases.lista_case("float32").scheduled).pointers == ()
    assert state_layout(cases.channel_case().scheduled).pointers == ("A", "y")


def test_end_takes_a_const_state_unless_it_needs_scratch() -> None:
    case = cases.lista_case("float32")
    assert "const s_state *s" in prototypes("s", case.program, state_layout(case.scheduled))["end"]
    layout = replace(state_layout(case.scheduled), end_writes=True)
    assert prototypes("s", case.program, layout)["end"] == "void s_end(s_state *s, float x[9])"


def test_header_names_the_ports_of_the_model() -> None:
    case = cases.channel_case()
    inputs, outputs = case.ports(case.program.inputs), case.ports(case.program.outputs)
    text = header_text("s", case.program, state_layout(case.scheduled), inputs, outputs)
    assert " *   A: A, 6 x 11, float32\n" in text and " *   error: error, 1, float32\n" in text
    assert "#define s_ITERATIONS 5\n" in text and "restrict" not in text
    assert Buffer("A", "float32", (6, 11), "input") == case.program.buffers["A"]


@pytest.mark.parametrize(
    ("in_begin", "in_step", "lanes", "fewest"),
    [
        (100, 100, 32, 32),
        (2**19, 100, 32, 16),  # read once, no matter how large
        (100, 2**15, 32, 16),
        (100, 2**19, 32, 4),
        (100, 2**19, 8, 2),  # never one problem alone
    ],
)
def test_fewest_problems_of_a_group(in_begin: int, in_step: int, lanes: int, fewest: int) -> None:
    """By the number of float32 weights that begin and an iteration read."""
    case = cases.all_cases()["lista32"]
    sizes = {"W1": in_begin, "W2": in_step}
    constants = {n: np.zeros((sizes[n], 1), "float32") if n in sizes else v for n, v in case.program.constants.items()}
    program = replace(case.program, constants=constants)
    ports = (case.ports(program.inputs), case.ports(program.outputs))
    text = host_driver_text("s", program, *ports, lanes=lanes)
    assert f"long s_host_fewest(void) {{\n    return {fewest};\n}}" in text
