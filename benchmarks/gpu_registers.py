"""What the assembler makes of kernels for GPUs: registers, stack and spills of a thread, by the size of groups.

    python benchmarks/gpu_registers.py [--only NAME,...] [--groups 1,4,16,32,64,256] [--default]

Each graph of the benchmark on GPUs is mapped onto groups of these sizes, and compiled for every architecture that a
build holds; with `--default` the forms that the compiler chooses, by both back ends. Prints the tables of
docs/gpu_kernels.md. It takes neither a GPU nor a driver, and about three minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from without_install import ensure_unfoldc

ensure_unfoldc()

import torch  # noqa: E402
from gpu_cases import GPU_GRAPHS  # noqa: E402
from speed_files import export_ours  # noqa: E402

from unfoldc.kernels.artifact import Artifact  # noqa: E402
from unfoldc.kernels.gpu import GpuChoices  # noqa: E402
from unfoldc.kernels.gpu.choices import WARP  # noqa: E402
from unfoldc.kernels.gpu.defaults import filled  # noqa: E402
from unfoldc.kernels.gpu.mapping import Mapper  # noqa: E402
from unfoldc.kernels.gpu_build import cuda_program  # noqa: E402
from unfoldc.kernels.loops import LoopProgram  # noqa: E402
from unfoldc.kernels.lower import lower  # noqa: E402
from unfoldc.kernels.passes.repeat_nests import repeat_nests  # noqa: E402
from unfoldc.kernels.pipeline import build_artifact, load_program  # noqa: E402
from unfoldc.kernels.printers.cuda import CudaForm, cuda_sources  # noqa: E402
from unfoldc.targets.cuda.build import build_cubins  # noqa: E402
from unfoldc.targets.cuda.target import CUDA  # noqa: E402

SMALL = ("lista-16-32-tied-k10", "lista-32-64-tied-k10", "wmmse", "beamforming", "mimo-admm")
Model = Any


def by_groups(model: Model, program: LoopProgram, artifact: Artifact, groups: Sequence[int]) -> Artifact:
    """An artifact with a form for each size of groups, as many problems in a block as for large batches."""
    mapper = Mapper(program)
    forms = []
    for group in groups:
        choices = GpuChoices(group)
        choices = filled(mapper(choices)) if group <= WARP else choices
        forms.append(CudaForm(f"group_{group}", 1, choices))
    sources = cuda_sources("solver", program, model.inputs, model.outputs, forms)
    return replace(artifact, sources={**artifact.sources, **sources})


def rows(artifact: Artifact, title: str, note: str = "") -> Iterator[str]:
    """A row for each kernel of a form: block, shared memory, and what the assembler says for each architecture."""
    facts = json.loads(artifact.sources["solver_launch.json"])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        report = json.loads(build_cubins(artifact, Path(folder)).read_text())
        print(f"{title}{note}: built in {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    for form in facts["forms"]:
        if "list" in form:
            continue
        found = [kernels["kernels"][form["kernel"]] for kernels in report["architectures"].values()]
        group = "grid" if form["cooperative"] else str(form["group"])
        cells = [title + note, group, str(form["problems"]), f"{form['shared_bytes']:,}"]
        for kernel in found:
            stores, loads = kernel["spill_stores"], kernel["spill_loads"]
            spills = f"{stores}, {loads}" if stores or loads else "0"
            cells += [str(kernel["registers"]), str(kernel["stack_bytes"]), spills]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of graphs; all that a block solves")
    parser.add_argument("--groups", default="1,4,16,32,64,256", help="lanes of a group")
    parser.add_argument("--default", action="store_true", help="the forms that the compiler chooses, by both back ends")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = arguments.only.split(",") if arguments.only else list(GPU_GRAPHS) if arguments.default else SMALL
    print("| solver | G | problems | shared | sm_80: registers | stack | spills | sm_90: registers | stack | spills |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in names:
        graph = GPU_GRAPHS[name]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "solver.onnx"
            export_ours(graph, 1, file)
            model, optimised = load_program(file, None if graph.dynamic else 1)
        backends = ("cuda", "tvm") if arguments.default else ("cuda",)
        for backend in backends:
            artifact = build_artifact(model, optimised, CUDA.spec, backend, "solver", host=False)
            if not arguments.default:
                program = cuda_program(repeat_nests(lower(optimised)))
                artifact = by_groups(model, program, artifact, list(map(int, arguments.groups.split(","))))
            for row in rows(artifact, graph.title, f", `{backend}`" if arguments.default else ""):
                print(row, flush=True)


if __name__ == "__main__":
    main()
