"""The law of the mapping over the zoo: lanes in random order, and printed kernels in the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from gpu_kernels.lanes import run_lanes
from gpu_kernels.simulator import Simulator
from solver_zoo.exports import OURS, make_case
from solver_zoo.registry import SOLVERS

from unfoldc.kernels.gpu import GRID, GpuChoices, map_program
from unfoldc.kernels.gpu.estimate import latency
from unfoldc.kernels.gpu_build import cuda_program
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.repeat_nests import repeat_nests
from unfoldc.kernels.pipeline import load_program

MOST = 1e6  # additions of one lane: what the interpreter and the simulator can do in seconds
ITERATIONS = 2


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    process = Simulator()
    yield process
    process.close()


def apart(found: np.ndarray, right: np.ndarray) -> float:
    """Relative to the norm; NaN where one of them is."""
    a, b = found.astype(np.float64), right.astype(np.float64)
    return float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(b)), 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_lanes_and_simulator_agree_with_the_loops(simulator: Simulator, name: str) -> None:
    case = make_case(SOLVERS[name], replace(OURS, dynamic=SOLVERS[name].dynamic))
    model, optimised = load_program(case.path)
    program = cuda_program(repeat_nests(lower(optimised)))
    if latency(map_program(program, GpuChoices(1))) > MOST:
        pytest.skip("too long for an interpreter")
    unbatched = frozenset(n for n, port in zip(program.inputs, model.inputs, strict=True) if not port.batched)
    arrays = dict(zip(program.inputs, case.inputs, strict=True))
    singles = [
        {
            n: np.asarray(a if n in unbatched else a[item], program.buffers[n].dtype).reshape(program.buffers[n].shape)
            for n, a in arrays.items()
        }
        for item in range(2)
    ]
    wanted = [run(program, single, ITERATIONS) for single in singles]
    for seed, group in enumerate((1, 2, 8, 32, 64, 256, GRID)):
        mapped = map_program(program, GpuChoices(group), unbatched)
        found = run_lanes(mapped, singles[0], iterations=ITERATIONS, order="random", seed=seed)
        for output, right in wanted[0].items():
            assert apart(found[output], right) <= 1e-5, (group, output)
    batch = {n: a if n in unbatched else a[:2] for n, a in arrays.items()}
    for choices in (GpuChoices(1, 3), GpuChoices(4, 2), GpuChoices(32)):
        answers, _ = simulator.launch(program, (model.inputs, model.outputs), choices, batch, 2, ITERATIONS)
        for output, port in zip(program.outputs, model.outputs, strict=True):
            for item in range(2 if port.batched else 1):
                assert apart(answers[output][item], wanted[item][output]) <= 1e-5, (choices, output)
