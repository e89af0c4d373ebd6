from __future__ import annotations

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Assign, Buffer, Expr, For, Let, Load, Local, LoopProgram, Nest, Step, Store, Var
from unfoldc.kernels.passes.block_rows import block_rows
from unfoldc.kernels.passes.tile_results import tile_results
from unfoldc.kernels.verify import verify_loops

F = "float32"


def at(buffer: str, *indices: str | Expr) -> Load:
    return Load(buffer, tuple(Var(i) if isinstance(i, str) else i for i in indices), F)


def product(rows: int, columns: int, terms: int, shared: bool = True) -> LoopProgram:
    """C = A B; where not `shared`, every result has a matrix B of its own."""
    b = at("b", "j", "c") if shared else at("d", "i", "j", "c")
    loop = For("i", rows, (For("c", columns, (
        Let("acc", build.literal(0, F), mutable=True),
        For("j", terms, (Assign("acc", build.add(Local("acc", F), build.mul(at("a", "i", "j"), b))),)),
        Store("out", (Var("i"), Var("c")), Local("acc", F)),
    )),))  # fmt: skip
    shapes = {"a": (rows, terms), "b": (terms, columns), "d": (rows, terms, columns)}
    buffers = {n: Buffer(n, F, shape, "input") for n, shape in shapes.items()}
    buffers["out"] = Buffer("out", F, (rows, columns), "output")
    return LoopProgram(buffers, {}, tuple(shapes), ("out",), (), (Step(0, 1, ()),), (Nest(("product",), (loop,)),))


def answer(program: LoopProgram) -> np.ndarray:
    rng = np.random.default_rng(3)
    inputs = {n: rng.standard_normal(program.buffers[n].shape).astype(F) for n in program.inputs}
    return np.asarray(run(program, inputs)["out"])


def tiled(program: LoopProgram, rows: int, columns: int) -> LoopProgram:
    found = program.mapped(lambda body: block_rows(tile_results(body, rows), columns))
    verify_loops(found)
    return found


@pytest.mark.parametrize("rows", [1, 2, 5, 6])
@pytest.mark.parametrize("columns", [1, 3, 4, 6])
def test_the_answer_is_the_same(rows: int, columns: int) -> None:
    program = product(rows, columns, 5)
    np.testing.assert_allclose(answer(tiled(program, 2, 4)), answer(program), rtol=1e-5, atol=1e-6)


def test_eight_sums_share_what_they_read() -> None:
    found = tiled(product(4, 8, 5), 2, 4)
    inner = [s for s in build.statements(found.end) if isinstance(s, For) and s.var == "j"]
    assert [len(s.body) for s in inner] == [8]
    loads = {e for s in inner[0].body for top in build.expressions(s) for e in build.walk(top) if isinstance(e, Load)}
    assert len(loads) == 2 + 4


def test_rows_that_share_nothing_stay_apart() -> None:
    program = product(4, 8, 5, shared=False)
    assert tile_results(program.end, 2) == program.end
