"""Sweeps over a few rows compute bit for bit what the nests did, and large values shrink to those rows."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import (
    Assign,
    Buffer,
    Expr,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Nest,
    Step,
    Stmt,
    Store,
    Var,
)
from unfoldc.kernels.passes.fuse_sweeps import SweepSizes, fuse_sweeps
from unfoldc.kernels.passes.plan_memory import plan_memory
from unfoldc.kernels.verify import verify_loops

F = "float32"
ANY = SweepSizes(value=0, row=0, fewest=1, rows=4)
LONG = SweepSizes(value=0, row=8, fewest=1, rows=4)  # rows of more than one element


def at(buffer: str, *indices: Expr) -> Load:
    return Load(buffer, indices, F)


@dataclass
class Case:
    """n rows of m numbers, factors with r columns; the nests of an iteration are added one by one."""

    n: int
    m: int
    r: int = 2
    nests: list[Stmt] = field(default_factory=list)
    scratch: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def loops(self, extents: str, body: tuple[Stmt, ...]) -> Nest:
        """Loops i < n, j < m, c < r as the letters say, numbered so that no two nests share a variable."""
        number = len(self.nests)
        sizes = {"i": self.n, "j": self.m, "c": self.r}
        for letter in reversed(extents):
            body = (For(letter, sizes[letter], body),)
        names = {s.var: Var(f"{s.var}{number}") for s in build.statements(body) if isinstance(s, For)}
        (nest,) = (
            build.map_stmt(Nest(("by hand",), body), lambda e: names.get(e.name) if isinstance(e, Var) else None),
        )

        def renamed(s: Stmt) -> Stmt:
            if isinstance(s, For):
                return replace(s, var=names[s.var].name, body=tuple(map(renamed, s.body)))
            return replace(s, body=tuple(map(renamed, s.body))) if isinstance(s, Nest) else s

        result = renamed(nest)
        assert isinstance(result, Nest)
        return result

    def add(
        self,
        extents: str,
        target: Load,
        value: Expr,
        over: str = "",
        old: Expr | None = None,
        start: Expr | None = None,
    ) -> None:
        """target = value in the loops `extents`; with `over`, old + a quarter of the sum over those loops."""
        body: tuple[Stmt, ...] = (Store(target.buffer, target.indices, value),)
        if over:
            sizes = {"i": self.n, "j": self.m, "c": self.r}
            inner: tuple[Stmt, ...] = (Assign("acc", build.add(Local("acc", F), value)),)
            for letter in reversed(over):
                inner = (For(letter, sizes[letter], inner),)
            first = Let("acc", build.literal(0.5, F) if start is None else start, mutable=True)
            total = build.mul(build.literal(0.25, F), Local("acc", F))
            total = total if old is None else build.add(old, total)
            body = (first, *inner, Store(target.buffer, target.indices, total))
        self.nests.append(self.loops(extents, body))

    def program(self) -> LoopProgram:
        """Inputs a (n, m), u0 (n, r) and v0 (m, r); states u, v and z, which `end` hands out."""
        n, m, r = self.n, self.m, self.r
        shapes = {"u": (n, r), "v": (m, r), "z": (1,)}
        buffers = {"a": Buffer("a", F, (n, m), "input")}
        for name, shape in shapes.items():
            buffers[f"{name}0"] = Buffer(f"{name}0", F, shape, "input")
            buffers[name] = Buffer(name, F, shape, "state")
            buffers[f"{name}1"] = Buffer(f"{name}1", F, shape, "output")
        buffers |= {name: Buffer(name, F, shape, "scratch") for name, shape in self.scratch.items()}

        def copies(suffix: str, into: str) -> tuple[Stmt, ...]:
            found: list[Stmt] = []
            for name, shape in shapes.items():
                where = tuple(Var(f"{name}{into}{axis}") for axis in range(len(shape)))
                body: tuple[Stmt, ...] = (Store(name + into, where, at(name + suffix, *where)),)
                for variable, size in reversed(list(zip(where, shape, strict=True))):
                    body = (For(variable.name, size, body),)
                found.append(Nest((), body))
            return tuple(found)

        step = Step(0, 2, tuple(self.nests))
        ins, outs = tuple(["a", *(f"{s}0" for s in shapes)]), tuple(f"{s}1" for s in shapes)
        return LoopProgram(buffers, {}, ins, outs, copies("0", ""), (step,), copies("", "1"))


I, J, C = Var("i"), Var("j"), Var("c")  # noqa: E741
ZERO = build.ZERO


def answers(program: LoopProgram, seed: int = 0, special: bool = False) -> list[np.ndarray]:
    verify_loops(program)
    rng = np.random.default_rng(seed)
    inputs = {n: rng.standard_normal(program.buffers[n].shape).astype(F) for n in program.inputs}
    if special:
        inputs["a"][tuple(rng.integers(0, inputs["a"].shape))] = np.nan
        inputs["u0"].flat[-1] = np.inf
    return list(run(program, inputs).values())


def check(program: LoopProgram, sizes: SweepSizes = ANY, special: bool = False) -> LoopProgram:
    """The fused program, which gives the same bits; also where scratch shares memory."""
    fused = fuse_sweeps(program, sizes)
    for form in (fused, plan_memory(fused)):
        for found, wanted in zip(answers(form, 1, special), answers(program, 1, special), strict=True):
            np.testing.assert_array_equal(found, wanted)
    return fused


def sweeps(program: LoopProgram) -> int:
    return sum(isinstance(s, For) for s in program.steps[0].body)


def residual(case: Case, name: str = "t") -> None:
    """t = a - u vᵀ."""
    case.scratch[name] = (case.n, case.m)
    body = (
        Let("acc", build.literal(0, F), mutable=True),
        For("c", case.r, (Assign("acc", build.add(Local("acc", F), build.mul(at("u", I, C), at("v", J, C)))),)),
        Store(name, (I, J), build.sub(at("a", I, J), Local("acc", F))),
    )
    case.nests.append(case.loops("ij", body))


def factors(n: int = 12, m: int = 7) -> Case:
    """Robust PCA's iteration: a residual, and steps of both factors along it from the same old ones."""
    case = Case(n, m)
    residual(case)
    case.scratch["x"] = (n, case.r)
    case.add("ic", at("x", I, C), build.mul(at("t", I, J), at("v", J, C)), over="j", old=at("u", I, C))
    case.add("jc", at("v", J, C), build.mul(at("t", I, J), at("u", I, C)), over="i", old=at("v", J, C))
    case.add("ic", at("u", I, C), at("x", I, C))
    return case


@pytest.mark.parametrize("n", [8, 9, 10, 11, 12, 13])
@pytest.mark.parametrize("special", [False, True])
def test_both_factors_in_one_sweep(n: int, special: bool) -> None:
    fused = check(factors(n).program(), special=special)
    assert sweeps(fused) == 1
    assert fused.buffers["t"].shape == ((3 if n == 9 else 4), 7)
    assert fused.buffers["x"].shape == ((3 if n == 9 else 4), 2)
    assert fused.buffers["s_acc"].shape == (2, 7)  # contiguous as the rows are


def test_what_depends_on_the_whole_sum_stays_behind() -> None:
    """A second residual from the new factor: it and its own product are a sweep of their own."""
    case = factors()
    residual(case, "t2")
    case.add("jc", at("v", J, C), build.mul(at("t2", I, J), at("u", I, C)), over="i", old=at("v", J, C))
    fused = check(case.program())
    assert sweeps(fused) == 2
    assert fused.buffers["t2"].shape == (4, 7)


def test_a_factor_that_changes_within_the_sweep() -> None:
    """Each row of u is new before the products with it are summed: row by row that is the old order."""
    case = Case(12, 7)
    residual(case)
    case.add("ic", at("u", I, C), build.mul(at("t", I, J), at("v", J, C)), over="j", old=at("u", I, C))
    case.add("jc", at("v", J, C), build.mul(at("t", I, J), at("u", I, C)), over="i", old=at("v", J, C))
    assert sweeps(check(case.program())) == 1


def test_nothing_moves_over_what_it_depends_on() -> None:
    """v is overwritten between the residual and the products with it."""
    case = Case(12, 7)
    residual(case)
    case.add("jc", at("v", J, C), build.mul(at("v", J, C), at("v", J, C)))
    case.add("ic", at("u", I, C), build.mul(at("t", I, J), at("v", J, C)), over="j", old=at("u", I, C))
    program = case.program()
    assert fuse_sweeps(program, ANY) == program


@pytest.mark.parametrize("reader", ["shifted", "two rows", "total first", "other loop"])
def test_values_that_are_needed_whole_stay(reader: str) -> None:
    case = Case(12, 12)
    residual(case)
    case.add("ic", at("u", I, C), build.mul(at("t", I, J), at("v", J, C)), over="j", old=at("u", I, C))
    match reader:
        case "shifted":  # the sum begins with another row than the value
            case.add("jc", at("v", J, C), build.mul(at("t", I, J), at("t", build.sub(build.index(11), I), J)), over="i")
        case "two rows":
            case.add("jc", at("v", J, C), build.mul(at("t", I, J), at("t", J, I)), over="i")
        case "total first":  # each row needs a sum over all rows
            case.add("", at("z", ZERO), at("t", I, J), over="ij")
            case.add("ic", at("u", I, C), build.mul(at("t", I, J), at("z", ZERO)), over="j")
        case "other loop":
            case.add("jc", at("v", J, C), build.mul(at("t", I, J), at("t", ZERO, J)), over="i")
    fused = check(case.program(), LONG)
    assert fused.buffers["t"].shape == (12, 12)


def test_sums_that_see_each_other_stay() -> None:
    """The first row of the result changes before the sums of the other rows read it."""
    case = Case(12, 7)
    residual(case)
    case.add("jc", at("v", J, C), build.mul(at("t", I, J), at("v", ZERO, C)), over="i")
    program = case.program()
    assert check(program) == program


def test_loops_whose_order_matters_keep_it() -> None:
    """Every round over the rows begins with what the round before left in other rows."""
    case = Case(12, 7)
    case.scratch["x"] = (12,)
    case.add("i", at("x", I), at("u", I, ZERO))
    residual(case)
    opposite = at("x", build.sub(build.index(11), I))
    case.add("ci", at("x", I), build.add(opposite, at("t", I, ZERO)))
    case.add("ic", at("u", I, C), at("x", I))
    program = case.program()
    assert check(program) == program


def test_loops_that_stand_in_another_order() -> None:
    """The rows are the second loop of a reader whose result lies the other way round."""
    case = Case(12, 7)
    residual(case)
    case.scratch["x"] = (2, 12)
    case.add("ci", at("x", C, I), build.mul(at("t", I, J), at("v", J, C)), over="j")
    case.add("ic", at("u", I, C), at("x", C, I))
    fused = check(case.program())
    assert sweeps(fused) == 1
    assert fused.buffers["x"].shape == (2, 4)


@pytest.mark.parametrize(
    ("sizes", "happens"),
    [
        (ANY, True),
        (SweepSizes(value=12 * 7 * 4, row=28, large=12 * 9 * 4, tile=0), True),
        (SweepSizes(value=12 * 7 * 4, row=28, large=12 * 9 * 4 + 1, tile=0), False),
        (SweepSizes(value=12 * 7 * 4 + 1, row=0), False),
        (SweepSizes(value=0, row=29), False),
        (SweepSizes(), False),
    ],
)
def test_only_large_values_with_long_rows(sizes: SweepSizes, happens: bool) -> None:
    program = factors().program()
    assert (check(program, sizes) != program) == happens


@pytest.mark.parametrize(("tile", "rows"), [(3, 3), (0, 2), (5, 4), (6, 6), (100, 6)])
def test_as_many_rows_as_a_tile_has_bytes_for(tile: int, rows: int) -> None:
    """Within the limits, and of about so many such a number that nothing is left."""
    sizes = SweepSizes(value=0, row=0, large=0, tile=tile * 4 * (7 + 2), fewest=2, rows=7)
    assert check(factors().program(), sizes).buffers["t"].shape == (rows, 7)


@pytest.mark.parametrize(("short", "rows"), [(28 * 4, 4), (28 * 7, 4), (28 * 16, 4), (28, 1), (0, 12)])
def test_of_short_rows_whole_vectors_along_them(short: int, rows: int) -> None:
    """12 rows of 28 bytes, at most half of them: a power of 2 of them, and the rest behind; of single rows nothing."""
    case = Case(12, 8)
    residual(case)
    case.add("ic", at("u", I, C), build.mul(at("t", I, J), at("v", J, C)), "j", at("u", I, C))
    sizes = SweepSizes(value=0, row=256, short=short * 8 // 7, line=1)
    assert check(case.program(), sizes).buffers["t"].shape == (rows, 8)


def test_sums_as_large_as_the_value_do_not_pay() -> None:
    case = Case(12, 7, r=8)
    residual(case)
    case.add("jc", at("v", J, C), build.mul(at("t", I, J), at("u", I, C)), over="i")
    program = case.program()
    assert fuse_sweeps(program, LONG) == program


def test_columns_may_be_the_rows_of_a_sweep() -> None:
    """A column of the value belongs to a row of the result, which then needs no sums."""
    case = Case(12, 7, r=8)
    residual(case)
    case.add("jc", at("v", J, C), build.mul(at("t", I, J), at("u", I, C)), over="i")
    assert check(case.program()).buffers["t"].shape == (12, 3)


# -- random programs -------------------------------------------------------------------------------------------------


def random_program(seed: int) -> LoopProgram:
    """Residuals, chains of them, steps of factors, totals, and nests in between that stand in the way."""
    r = random.Random(seed)
    case = Case(r.randrange(4, 16), r.randrange(3, 10), r.choice((1, 2)))
    residual(case, "t0")
    made = ["t0"]
    for number in range(1, r.randrange(3, 9)):
        t, other = r.choice(made[-2:]), r.choice(made)
        value = at(t, I, J)
        match r.randrange(9):
            case 0:
                case.scratch[f"t{number}"] = (case.n, case.m)
                made.append(f"t{number}")
                scaled = build.binary("max", build.mul(value, at(other, I, J)), at("a", I, J))
                case.add(r.choice(("ij", "ij", "ji")), at(f"t{number}", I, J), scaled)
            case 1 | 2:
                old = r.choice((None, at("v", J, C)))
                start = r.choice((None, at("v", J, C), at("z", ZERO)))
                case.add(r.choice(("jc", "cj")), at("v", J, C), build.mul(value, at("u", I, C)), "i", old, start)
            case 3 | 4:
                if r.random() < 0.5 and f"x{case.r}" not in case.scratch:
                    case.scratch[f"x{case.r}"] = (case.n, case.r)
                    case.add("ic", at(f"x{case.r}", I, C), build.mul(value, at("v", J, C)), "j")
                    continue
                old = r.choice((None, at("u", I, C)))
                case.add(r.choice(("ic", "ci")), at("u", I, C), build.mul(value, at("v", J, C)), "j", old)
            case 5:
                case.add("", at("z", ZERO), build.mul(value, at(other, I, J)), r.choice(("ij", "ji")))
            case 6:
                case.add("jc", at("v", J, C), build.mul(at("v", J, C), at("z", ZERO)))
            case 7:
                name = next((n for n in case.scratch if n.startswith("x")), "u")
                case.add("ic", at("u", I, C), build.mul(at(name, I, C), build.add(at("z", ZERO), at("u", I, ZERO))))
            case 8:
                residual(case, f"t{number}")
                made.append(f"t{number}")
    return case.program()


def check_random(seeds: range) -> None:
    happened: Counter[bool] = Counter()
    for seed in seeds:
        program = random_program(seed)
        rows = SweepSizes(
            value=0, row=0, rows=random.Random(seed).randrange(1, 6), line=random.Random(seed).choice((1, 16))
        )
        happened[check(program, rows, special=seed % 3 == 0) != program] += 1
    assert happened[True] > len(seeds) / 3 and happened[False] > 1


def test_random_programs() -> None:
    check_random(range(50))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(50, 1050, 100))
def test_many_random_programs(first: int) -> None:
    check_random(range(first, first + 100))
