"""The text of generated C: golden files, readability, and what must not depend on anything but the program."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.loops import (
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
    Store,
    Unary,
    Var,
)
from unfoldc.kernels.passes.plan_memory import plan_memory
from unfoldc.kernels.printers.c import c_sources
from unfoldc.kernels.printers.c.expressions import Expressions
from unfoldc.kernels.printers.c.helpers import Helpers
from unfoldc.kernels.printers.c.lane_expressions import LaneExpressions
from unfoldc.kernels.printers.c_api import state_layout
from unfoldc.kernels.printers.not_vectorisable import NotVectorisable


def _load(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


build = _load("c_build")
cases = build.load("c_cases")
programs = build.programs
GOLDEN = Path(__file__).parents[1] / "golden"
A = Buffer("a", "float32", (6, 4), "input")
N = Buffer("n", "int32", (6,), "input")
T = Buffer("t", "float32", (1, 6, 4), "state")
AT, J = Var("i"), Var("j")
X, Y, Z = (Load("a", (Const(r, "int32"), J), "float32") for r in range(3))


def printer() -> Expressions:
    program = LoopProgram({"a": A, "n": N, "t": T}, {}, ("a", "n"), (), (), (), ())
    made = Expressions(program, {"a": "a", "n": "n", "t": "t"}, Helpers("s"))
    made.ranges |= {"i": (0, 5), "j": (0, 3), "k": (2, 9)}
    return made


def op(operator: str, a: Expr, b: Expr) -> Binary:
    return programs.binary(operator, a, b)  # type: ignore[no-any-return]


def whole(value: int) -> Const:
    return Const(value, "int32")


@pytest.mark.parametrize("name", ["m4", "host"])
def test_the_sources_are_the_golden_file(name: str) -> None:
    case = cases.lista_case("float32", peeled=True, n=6, m=3)
    case = replace(case, spec=build.M4, freestanding=True) if name == "m4" else replace(case, lanes=4)
    sources = case.sources("solver")[0]
    text = "".join(f"==> {file} <==\n{sources[file]}\n" for file in sorted(sources))
    golden = GOLDEN / f"c_lista_{name}.txt"
    if os.environ.get("UNFOLDC_UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ((op("add", op("mul", AT, whole(4)), whole(1)), J), "(i * 16) + j + 4"),
        ((op("sub", whole(5), AT), J), "j + 20 - (i * 4)"),
        ((AT, op("mod", J, whole(2))), "(i * 4) + (j % 2)"),
        ((op("floordiv", AT, whole(2)), J), "((i / 2) * 4) + j"),
        ((op("sub", Var("k"), whole(2)), whole(0)), "(k * 4) - 8"),
        ((op("sub", AT, AT), J), "j"),
        ((whole(0), whole(0)), "0"),
        ((whole(2), whole(3)), "11"),
        ((Cast(op("add", Cast(AT, "int64"), Const(1, "int64")), "int32"), J), "(i * 4) + j + 4"),
        ((Select(op("lt", AT, whole(3)), AT, whole(2), "int32"), J), "(((i < 3) ? i : 2) * 4) + j"),
        ((Load("n", (AT,), "int32"), J), "(s_index_int32(n[i], 6) * 4) + j"),
        ((op("add", Load("n", (AT,), "int32"), AT), J), "(s_index_int32(s_add_int32(n[i], i), 6) * 4) + j"),
    ],
)
def test_positions_are_short_sums(indices: tuple[Expr, ...], text: str) -> None:
    assert printer().element("a", indices) == f"a[{text}]"


def test_an_axis_of_one_element_takes_no_index() -> None:
    assert printer().element("t", (Load("n", (AT,), "int32"), AT, J)) == "t[(i * 4) + j]"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (op("add", op("add", X, Y), op("mul", Y, Z)), "a[j] + a[j + 4] + (a[j + 4] * a[j + 8])"),
        (op("sub", X, op("sub", Y, Z)), "a[j] - (a[j + 4] - a[j + 8])"),
        (op("mul", op("add", X, Y), op("div", Y, Z)), "(a[j] + a[j + 4]) * (a[j + 4] / a[j + 8])"),
        (Unary("neg", op("mul", X, Y), "float32"), "-(a[j] * a[j + 4])"),
        (Unary("neg", Const(-1.5, "float32"), "float32"), "-(-1.5f)"),
        (op("sub", X, Const(-1.5, "float32")), "a[j] - -1.5f"),
        (op("and", op("lt", X, Y), Unary("not", op("ge", X, Y), "bool")), "(a[j] < a[j + 4]) && !(a[j] >= a[j + 4])"),
        (Select(op("lt", X, Y), X, Select(op("gt", X, Y), Y, Z, "float32"), "float32"),
         "(a[j] < a[j + 4]) ? a[j] : ((a[j] > a[j + 4]) ? a[j + 4] : a[j + 8])"),
        (Cast(op("add", AT, whole(1)), "float32"), "(float)(i + 1)"),
        (op("mul", op("mul", X, Y), Z), "a[j] * a[j + 4] * a[j + 8]"),
        (op("mul", op("add", AT, J), AT), "(i + j) * i"),
        (op("lt", op("add", AT, J), op("mul", AT, J)), "(i + j) < (i * j)"),
        (Select(op("lt", X, Y), op("add", X, Y), Z, "float32"), "(a[j] < a[j + 4]) ? (a[j] + a[j + 4]) : a[j + 8]"),
        (Cast(op("sub", X, Y), "bool"), "(a[j] - a[j + 4]) != 0.0f"),
        (Cast(X, "bool"), "a[j] != 0.0f"),
        (Cast(op("lt", X, Y), "float32"), "(float)(a[j] < a[j + 4])"),
        (Unary("round", X, "float32"), "rintf(a[j])"),
        (Unary("abs", X, "float32"), "s_abs_float32(a[j])"),
        (op("max", X, Const(0.0, "float32")), "s_max_known_float32(a[j], 0.0f)"),
        (op("max", Const(0.0, "float32"), X), "s_max_known_float32(a[j], 0.0f)"),
        (op("max", X, Const(np.nan, "float32")), 's_max_float32(a[j], __builtin_nanf(""))'),
        (op("mod", op("add", AT, whole(3)), whole(4)), "(i + 3) % 4"),
        (op("mod", op("sub", AT, whole(3)), whole(4)), "s_mod_int32(i - 3, 4)"),
        (op("floordiv", AT, J), "s_floordiv_int32(i, j)"),
        (op("mul", Load("n", (AT,), "int32"), whole(3)), "s_mul_int32(n[i], 3)"),
    ],
)  # fmt: skip
def test_expressions_have_the_brackets_that_readers_need(expression: Expr, text: str) -> None:
    assert printer().text(expression) == text


def nan_weights(values: list[float]) -> str:
    buffers = {b.name: b for b in (Buffer("w", "float32", (2,), "constant"), replace(A, shape=(2,)))}
    program = LoopProgram(buffers, {"w": np.array(values, "float32")}, ("a",), (), (), (), ())
    smaller = op("min", Load("a", (AT,), "float32"), Load("w", (AT,), "float32"))
    return Expressions(program, {"a": "a", "w": "w"}, Helpers("s")).text(smaller)


def test_weights_that_hold_a_nan_are_compared_like_any_number() -> None:
    assert nan_weights([1, 2]) == "s_min_known_float32(a[i], w[i])"
    assert nan_weights([1, np.nan]) == "s_min_float32(a[i], w[i])"


def test_a_scalar_may_vary_in_one_place_and_not_in_another() -> None:
    program = LoopProgram({"a": A, "n": N, "t": T}, {}, ("a", "n"), (), (), (), ())
    lanes = LaneExpressions(program, {"a": "a"}, Helpers("s_lanes"), "s", frozenset({"a"}), "float32")
    half, v = Const(0.5, "float32"), Local("v", "float32")
    assert lanes.declared(Let("v", X)) == ("s_v32", "a[j]")
    assert lanes.text(op("max", v, v)) == "s_lanes_max_float32_v(v, v)"
    assert lanes.declared(Let("v", half)) == ("float", "0.5f")
    assert lanes.text(op("max", v, v)) == "s_lanes_max_float32(v, v)"
    assert lanes.declared(Let("v", half, mutable=True)) == ("s_v32", "s_lanes_splat_float32_v(0.5f)")


def test_what_has_no_vector_form_is_refused_with_the_reason() -> None:
    program = LoopProgram({"a": A, "n": N, "t": T}, {}, ("a", "n"), (), (), (), ())
    lanes = LaneExpressions(program, {"a": "a"}, Helpers("s_lanes"), "s", frozenset({"a", "n"}), "float32")
    for expression, reason in (
        (Load("a", (Load("n", (AT,), "int32"), J), "float32"), "an index depends on data"),
        (Cast(Load("n", (AT,), "int32"), "float32"), "a cast from int32 to float32"),
        (op("lt", Load("n", (AT,), "int32"), J), "a comparison of int32 values"),
        (op("lt", op("lt", X, Y), op("lt", Y, Z)), "lt of conditions"),
        (Select(op("lt", X, Y), AT, J, "int32"), "a choice between int32 values"),
    ):
        with pytest.raises(NotVectorisable, match=f"^{reason}$"):
            lanes.text(expression)
    with pytest.raises(NotVectorisable, match="a value of type int32 that differs"):
        lanes.declared(Let("v", Load("n", (AT,), "int32")))


def test_the_text_is_the_same_in_every_process() -> None:
    """Sets have another order in each process; nothing may depend on it."""
    code = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1]); import c_cases; "
        "text = [c_cases.all_cases()[n].sources('s') for n in ('floats32', 'lanes32', 'gather', 'metal')]; "
        "print(hashlib.sha256(repr([sorted(t[0].items()) for t in text]).encode()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parent)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1 and len(found.pop()) == 65


def test_no_text_of_the_model_leaves_its_comment() -> None:
    text = cases.gather_case().sources("s")[0]["s.c"]
    assert "    /* from a__b__ Mat__Mul, plain */\n" in text
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    assert "/*" not in code and "*/" not in code
    port = replace(cases.gather_case().ports(["points"])[0], name='"; } */ int main(')
    case = cases.gather_case()
    sources, _ = c_sources(
        "s", case.scheduled, [port, *case.ports(["rows"])], case.ports(case.program.outputs), host=True
    )
    assert " *   points: ________int_main_, 2 x 3, float64\n" in sources["s.h"]


def test_comments_say_which_iterations_a_function_runs() -> None:
    peeled = cases.lista_case("float32", peeled=True).sources("s")[0]["s.c"]
    assert "/* Iteration 0. */\nstatic void s_step_0(s_state *s) {" in peeled
    assert "/* Iterations 1 to 3, which are alike: the comments name the nodes of one of them. */\nstatic" in peeled
    rolled = cases.lista_case("float32").sources("s")[0]["s.c"]
    assert (
        "/* Iterations 0 to 3, which are alike: the comments name the nodes of one of them. */\nvoid s_iterate"
        in rolled
    )


def test_functions_have_one_way_out() -> None:
    """A reader, and a debugger at the closing brace, sees every call of `begin`, `iterate` and `end` end there."""
    for name, case in cases.all_cases().items():
        for file, text in case.sources(name)[0].items():
            if not file.endswith("_host.c"):
                assert all(len(re.findall(r"\breturn\b", body)) <= 1 for body in text.split("\n}\n")), file


def test_a_solver_without_iterations_or_constants_is_still_c() -> None:
    program = LoopProgram(
        {"y": Buffer("y", "float32", (2,), "input"), "x": Buffer("x", "float32", (2,), "output")},
        {}, ("y",), ("x",), (), (), (For("i", 2, (Store("x", (AT,), Load("y", (AT,), "float32")),)),),
    )  # fmt: skip
    text = build.Case(program, {}).sources("s")[0]["s.c"]
    assert "void s_iterate(s_state *s) {\n    (void)s;\n}\n" in text


def test_only_scratch_that_shares_memory_goes_without_restrict() -> None:
    text = cases.overlapping_case().sources("s")[0]["s.c"]
    pointers = re.findall(r"\*const (restrict )?(\w+) = &?s->(\w+)(\[\d+\])?;", text)
    place = {name: (member, offset) for _, name, member, offset in pointers}
    assert place["t0"] == place["t2"] and place["t1"] == place["t3"] != place["t0"]
    assert {name: bool(apart) for apart, name, _, _ in pointers} == {
        "x": True, "y": True, "t0": False, "t1": False, "t2": False, "t3": False,
    }  # fmt: skip


def test_memory_and_code_do_not_grow_with_the_iterations() -> None:
    made = {k: cases.lista_case("float32", iterations=k) for k in (8, 32)}
    layouts = {k: state_layout(case.scheduled) for k, case in made.items()}
    assert layouts[8] == layouts[32] and layouts[8].bytes(4) == layouts[32].bytes(4)
    texts = {k: case.sources("s")[0]["s.c"] for k, case in made.items()}
    assert texts[8].replace("8 iterations", "32 iterations").replace("0 to 7", "0 to 31") == texts[32]


def test_long_lines_are_broken_and_stay_in_their_column() -> None:
    for name, case in cases.all_cases().items():
        for file, text in case.sources(name)[0].items():
            lines = [line for line in text.splitlines() if len(line) > 112]
            assert not lines, f"{file}: {lines[0]}"


def test_marks_of_vector_loops_stand_at_innermost_loops_only() -> None:
    inner = For("j", 4, (Store("t", (whole(0), AT, J), Const(0.0, "float32")),), "vector")
    program = plan_memory(
        LoopProgram({"t": T}, {}, (), (), (Nest((), (For("i", 6, (inner,), "vector"),)),), (Step(0, 1, ()),), ())
    )
    text = c_sources("s", program, [], [], host=False)[0]["s.c"]
    assert "    for (int32_t i = 0; i < 6; i++) {\n        s_VECTOR\n        for (int32_t j" in text
    assert text.count("s_VECTOR\n") == 2  # the empty definition and the one use
