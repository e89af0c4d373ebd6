from __future__ import annotations

import numpy as np
import pytest
from symmetric_solver import K, answer, matrix, solver

from unfoldc.kernels import build
from unfoldc.kernels.loops import For, Let, LoopProgram, Nest
from unfoldc.kernels.passes.fuse_results import results_fused
from unfoldc.kernels.passes.half_products import half_products
from unfoldc.kernels.passes.vector_results import vector_results

LANES = 4


def halved(program: LoopProgram, cache: int = 0, registers: int = 16) -> LoopProgram:
    bits = LANES * 8 * np.dtype(program.buffers["w"].dtype).itemsize
    return half_products(program, bits, registers, cache)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", [16, 19, 20, 22, 36, 41])
def test_the_product_stays_and_half_is_read(order: int, dtype: str) -> None:
    """Whole blocks and not, an even and an odd number of them, groups of blocks with and without a rest."""
    program = solver(matrix(order, dtype))
    changed = halved(program)
    size = {n: v.size for n, v in changed.constants.items()}
    assert "w" not in size and 0.5 * order**2 < sum(size.values()) <= 0.75 * order**2
    wanted = np.linspace(-1, 1, order)
    for _ in range(K):
        wanted = wanted - program.constants["w"].astype(np.float64) @ wanted / 2
    np.testing.assert_allclose(answer(changed), wanted, rtol=0, atol=2e-6 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize(("registers", "groups"), [(8, [5, 4]), (11, [2, 2]), (32, [])])
def test_as_many_blocks_together_as_registers_allow(registers: int, groups: list[int]) -> None:
    """Ten blocks along an axis: a diagonal block has five or four behind it."""
    program = solver(matrix(40, "float32"))
    changed = halved(program, registers=registers)
    lanes = [s for s in build.statements(changed.steps[0].body) if isinstance(s, For) and s.kind == "lanes"]
    inner = [s for loop in lanes for s in loop.body if isinstance(s, For) and any(isinstance(b, Let) for b in s.body)]
    assert [s.extent for s in inner] == groups
    np.testing.assert_allclose(answer(changed), answer(program), atol=2e-6)


def test_a_rounding_is_no_asymmetry() -> None:
    w = matrix(20, "float32")
    rounding = np.float32(0.9) * np.finfo("float32").eps * np.abs(w).max()
    w[0, 4], w[4, 0] = 0, rounding
    program = solver(w)
    changed = halved(program)
    assert "w" not in changed.constants
    (blocks,) = changed.constants.values()
    assert blocks[0, 1, 0, 0] == rounding / 2  # what is between them
    np.testing.assert_allclose(answer(changed), answer(program), atol=1e-6)


def test_what_is_too_small_stays() -> None:
    for order in (14, 12):  # what fills up the last blocks eats the gain; three blocks
        program = solver(matrix(order, "float32"))
        assert halved(program) is program


def test_only_where_the_cache_does_not_hold_the_constants() -> None:
    program = solver(matrix(20, "float32"))
    assert halved(program, cache=1600) is program
    assert halved(program, cache=1599) is not program


def test_what_follows_joins_and_later_passes_leave_the_blocks_alone() -> None:
    program = solver(matrix(24, "float32"))
    changed = results_fused(halved(program))
    assert isinstance(changed.steps[0].body[-1], Nest)
    assert changed.steps[0].body[-1].origins == ("product", "step")
    after = vector_results(changed, 128, 6)
    blocks = [
        s
        for s in changed.steps[0].body
        if any(isinstance(b, For) and b.kind == "lanes" for b in build.statements((s,)))
    ]
    assert blocks and all(b in after.steps[0].body for b in blocks)
    np.testing.assert_allclose(answer(after), answer(program), atol=2e-6)
