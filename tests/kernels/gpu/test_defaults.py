from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.gpu.choices import GRID, GpuChoices
from unfoldc.kernels.gpu.defaults import default_gpu_choices, filled
from unfoldc.kernels.gpu.estimate import far_bytes, latency, private_words
from unfoldc.kernels.gpu.mapping import Mapper, map_program
from unfoldc.kernels.gpu_build import cuda_forms
from unfoldc.kernels.loops import Binary, Buffer, For, Load, LoopProgram, Nest, Step, Store, Var
from unfoldc.kernels.pipeline import compile_onnx
from unfoldc.kernels.target_spec import TargetSpec

CUDA = TargetSpec("cuda", word_bits=64, vector_bits=0, accumulators=16)


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = _load(Path(__file__).parents[1] / "printers" / "loop_programs.py")


def port(size: int, batched: bool = True) -> list[Port]:
    return [Port("y", "float32", (size,), batched)]


def test_one_problem_gets_as_many_lanes_as_results_and_many_share_blocks() -> None:
    program = programs.lista(m=8, n=16, iterations=10)
    few, many = (default_gpu_choices(Mapper(program), batch) for batch in (1, 65536))
    assert few.group >= 16 and few.problems == 1
    assert many.group < few.group and many.problems > 1 and many.block_threads >= 32


def turning(n: int) -> LoopProgram:
    """A matrix that is doubled and transposed in each of two iterations."""
    i, j = Var("i"), Var("j")

    def over(store: Store) -> Nest:
        return Nest((), (For("i", n, (For("j", n, (store,)),)),))

    z = Load("z", (i, j), "float32")
    double = over(Store("t", (i, j), Binary("add", z, z, "float32")))
    turn = over(Store("z", (i, j), Load("t", (j, i), "float32")))
    names = {"y": "input", "x": "output", "z": "state", "t": "scratch"}
    buffers = {name: Buffer(name, "float32", (n, n), space) for name, space in names.items()}
    begin = (over(Store("z", (i, j), Load("y", (i, j), "float32"))),)
    end = (over(Store("x", (i, j), z)),)
    return LoopProgram(buffers, {}, ("y",), ("x",), begin, (Step(0, 2, (double, turn)),), end)


def test_what_fits_no_block_takes_the_grid_in_every_batch() -> None:
    assert default_gpu_choices(Mapper(turning(500)), 1).is_grid
    assert not default_gpu_choices(Mapper(turning(500)), 65536).is_grid
    assert not default_gpu_choices(Mapper(turning(50)), 1).is_grid
    (form,) = cuda_forms(turning(500), port(500 * 500), port(500 * 500))
    assert form.choices.is_grid and form.from_batch == 1


def test_large_weights_are_fetched_by_the_whole_grid_for_one_problem() -> None:
    large, small = (programs.lista(m=m, n=2 * m, iterations=2) for m in (250, 16))
    assert default_gpu_choices(Mapper(large), 1).is_grid
    assert not default_gpu_choices(Mapper(small), 1).is_grid
    one, many = cuda_forms(large, port(250), port(500))  # its state fits a block, so that a batch has its form
    assert one.choices.is_grid and not many.choices.is_grid
    assert 2 <= many.from_batch <= 132  # some are solved one by one before blocks take over
    mapped = map_program(large, GpuChoices(1024))
    assert far_bytes(mapped, mapped.steps[0]) == 4 * 500 * 500  # W2; a row of theta is in shared memory


def test_forms_are_one_where_there_is_no_batch() -> None:
    program = programs.lista()
    assert [form.name for form in cuda_forms(program, port(5, batched=False), port(9))] == ["one"]
    names = {form.name: form for form in cuda_forms(program, port(5), port(9))}
    assert names["many"].from_batch > 1


def test_estimates_fall_with_lanes_and_count_what_a_lane_keeps() -> None:
    program = programs.lista(m=16, n=64)
    alone, together = (map_program(program, GpuChoices(group)) for group in (1, 64))
    assert latency(alone) > 8 * latency(together)
    assert private_words(together) == 64 + 1  # a row of W2 and an element of b; t is used up at once
    assert latency(map_program(program, GpuChoices(64, shared=0))) > latency(together)
    assert latency(map_program(program, GpuChoices(GRID))) > latency(together)


def test_weights_that_a_block_shares_count_once() -> None:
    mapped = map_program(programs.lista(m=16, n=32), GpuChoices(1))
    assert 32 * mapped.shared.nbytes > mapped.choices.shared  # so few problems would fit, each with its own weights
    assert filled(mapped).problems == 128
    assert filled(map_program(programs.lista(m=16, n=400), GpuChoices(1))).problems == 32  # at least a warp


@pytest.mark.parametrize("name", ["ista_tied", "operator_per_call", "float64"])
def test_the_back_end_makes_a_module_and_the_facts_of_its_launch(workshop: Any, name: str) -> None:
    path = workshop.saved(name, 4)
    artifact = compile_onnx(path, CUDA, "cuda", symbol="sparse")
    assert set(artifact.sources) == {"sparse.py", "sparse_launch.json"}
    assert artifact.sources == compile_onnx(path, CUDA, "cuda", symbol="sparse").sources
    facts = json.loads(artifact.sources["sparse_launch.json"])
    for form in facts["forms"]:
        parameters = ", ".join(row[0] for row in facts["parameters"])
        assert f"def {form['kernel']}({parameters}):" in artifact.sources["sparse.py"]
    assert {n for _, _, entries in facts["weights"] for n, _ in entries} == set(artifact.weights)
