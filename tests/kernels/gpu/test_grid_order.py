"""A grid waits as rarely as dependences allow: robust PCA with two inverses in an iteration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gpu_kernels.lanes import ORDERS, RaceError, run_lanes

import unfoldc
from unfoldc.kernels import build
from unfoldc.kernels.gpu import GRID, GpuChoices, Mapped, map_program
from unfoldc.kernels.gpu.jam import jammed
from unfoldc.kernels.gpu.parts import LANE, Barrier, One, Part
from unfoldc.kernels.gpu.split_sums import split_sums
from unfoldc.kernels.gpu_build import cuda_program
from unfoldc.kernels.index_bounds import longest
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Assign, For, Let, Load, Local, LoopProgram, Store, Var
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.repeat_nests import repeat_nests
from unfoldc.kernels.pipeline import load_program
from unfoldc.unfold_train.solvers import RobustPcaFromFactors

N, RANK = 12, 3


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoopProgram, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    shapes = {"X": (1, N, N), "L0": (1, N, RANK), "R0": (1, N, RANK)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    given = {name: torch.from_numpy(array) for name, array in arrays.items()}
    module = unfoldc.unfold(RobustPcaFromFactors(zeta_init=0.5), iterations=2, learn=["zeta", "eta"], example=given)
    path = tmp_path_factory.mktemp("pca") / "pca.onnx"
    unfoldc.export_onnx(module, tuple(given.values()), path, iterations="iteration", batch="fixed", check=False)
    program = cuda_program(repeat_nests(lower(load_program(path)[1])))
    return program, {
        n: a.reshape(program.buffers[n].shape) for n, a in zip(program.inputs, arrays.values(), strict=True)
    }


@pytest.fixture(scope="module")
def mapped(case: tuple[LoopProgram, dict[str, np.ndarray]]) -> Mapped:
    return map_program(case[0], GpuChoices(GRID))


def test_an_iteration_waits_three_times(mapped: Mapped) -> None:
    """For the residual, for its products, and for the factors; the inverses are taken beside the products."""
    parts = mapped.steps[0].parts
    assert sum(isinstance(part, Barrier) for part in parts) == 3
    assert {part.chain for part in parts if isinstance(part, One)} == {0, 1}


@pytest.mark.parametrize("order", ORDERS)
def test_lanes_in_any_order_agree_with_the_loops(
    case: tuple[LoopProgram, dict[str, np.ndarray]], mapped: Mapped, order: str
) -> None:
    program, inputs = case
    found = run_lanes(mapped, inputs, 2, order)
    for name, right in run(program, inputs, 2).items():
        np.testing.assert_allclose(found[name], right, rtol=0, atol=1e-5 * float(np.linalg.norm(right)))


@pytest.mark.parametrize("missing", range(3))
def test_each_barrier_is_needed(case: tuple[LoopProgram, dict[str, np.ndarray]], mapped: Mapped, missing: int) -> None:
    step = mapped.steps[0]
    places = [i for i, part in enumerate(step.parts) if isinstance(part, Barrier)]
    fewer = tuple(part for i, part in enumerate(step.parts) if i != places[missing])
    with pytest.raises(RaceError):
        run_lanes(replace(mapped, steps=(replace(step, parts=fewer), *mapped.steps[1:])), case[1], 2)


def test_chains_that_meet_are_noticed(case: tuple[LoopProgram, dict[str, np.ndarray]], mapped: Mapped) -> None:
    """One chain torn apart between two lanes."""
    step = mapped.steps[0]
    alone = [i for i, part in enumerate(step.parts) if isinstance(part, One) and part.chain == 0]

    def moved(i: int, part: Part) -> Part:
        return replace(part, chain=2) if i == alone[-1] and isinstance(part, One) else part

    torn = tuple(moved(i, part) for i, part in enumerate(step.parts))
    with pytest.raises(RaceError):
        run_lanes(replace(mapped, steps=(replace(step, parts=torn), *mapped.steps[1:])), case[1], 1)


def loop(extent: int = 5, terms: int = 100, stored: str = "p") -> For:
    """for i: acc = 0; for j: acc += e[j] r[j, i]; stored[i] = acc."""
    i, j, acc = Var("i"), Var("j"), Local("acc", "float32")
    term = build.binary("mul", Load("e", (j,), "float32"), Load("r", (j, i), "float32"))
    inner = For("j", terms, (Assign("acc", build.binary("add", acc, term)),))
    return For("i", extent, (Let("acc", build.literal(0.0, "float32"), True), inner, Store(stored, (i,), acc)))


def test_a_short_loop_goes_around_its_sums() -> None:
    found = jammed(loop())
    assert found is not None
    (sums,) = [s for s in found if isinstance(s, For)]
    assert [type(s) for s in found] == [Let] * 5 + [For] + [Store] * 5
    assert [s.name for s in sums.body if isinstance(s, Assign)] == [f"acc_{i}" for i in range(5)]
    assert [s.indices for s in found if isinstance(s, Store)] == [(build.index(i),) for i in range(5)]


def test_loops_that_stay_as_they_are() -> None:
    assert jammed(loop(9)) is None
    assert jammed(loop(stored="e")) is None  # what another run reads
    assert jammed(For("i", 5, loop().body[::2])) is None  # without a sum


def test_a_team_that_does_not_divide_a_sum_counts_the_rest_apart() -> None:
    body = split_sums(loop(terms=260).body, 32, {})
    assert body is not None
    every, rest = (s for s in body if isinstance(s, For))
    assert every.extent == 6 and longest(rest.extent, {LANE: (0, 31)}) == 3
    assert [longest(rest.extent, {LANE: (lane, lane)}) for lane in (0, 3, 4, 31)] == [3, 3, 2, 2]
