"""Measures what each transformation of the compiler gains: the same solver compiled with it and without, in turn.

    .venv/bin/python benchmarks/speed_passes.py [--only NAME,...]

Back end `c`, one thread, calls bound to their arrays. Writes benchmarks/results/passes.json, of which
docs/performance.md has the table.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from measuring import interleaved, ratios, write_results
from speed_cases import find_graph

import unfoldc
from unfoldc.kernels import batch_form, pipeline, print_sources, schedule, sweeps
from unfoldc.kernels.passes import jam_results, vector_axis, vector_results
from unfoldc.unfold_train.solvers import Lista

SEED = 5
Off = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One transformation: what it does, the graphs that show it, how it is switched off, and the batch."""

    what: str
    graphs: tuple[str, ...]
    off: Off
    batch: int = 1


def _same(program: Any, *_: Any) -> Any:
    return program


CASES = {
    "vector_results": Case(
        "a vector of results shares a reduction, blocked for registers, weights in reading order",
        ("lista-32-64-tied", "admm-lasso", "newton-schulz", "conv-ista"),
        lambda: mock.patch.object(schedule, "vector_results", _same),
    ),
    "split sums": Case(
        "a sum in several parts, so that additions do not wait",
        ("lista-8-16-tied", "mpc"),
        lambda: mock.patch.object(jam_results, "_MOST_PARTS", 1),
    ),
    "pair_results": Case(
        "two products whose rows fill half a vector joined, as of real and imaginary parts",
        ("beamforming",),
        lambda: mock.patch.object(sweeps, "pair_results", _same),
    ),
    "sum_columns": Case(
        "sums over whole matrices column by column",
        ("beamforming",),
        lambda: mock.patch.object(schedule, "sum_columns", _same),
    ),
    "tall_matrices": Case(
        "matrices of few columns stored column by column",
        ("rpca-100", "rpca-1000"),
        lambda: mock.patch.object(sweeps, "tall_matrices", _same),
    ),
    "copies in begin": Case(
        "run-time matrices laid out once for all iterations",
        ("beamforming", "wmmse"),
        lambda: mock.patch.object(vector_axis, "FEWEST_ITERATIONS", 10**9),
    ),
    "store_at_once": Case(
        "a whole result is stored where it is needed",
        ("newton-schulz", "lista-8-16-tied"),
        lambda: mock.patch.object(vector_results, "copy_behind", lambda *_: None),
    ),
    "fuse_results": Case(
        "nests over the same results joined",
        ("tv",),
        lambda: mock.patch.object(sweeps, "results_fused", _same),
    ),
    "fuse_rows": Case(
        "nests over rows of the same arrays in one loop",
        ("tv",),
        lambda: mock.patch.object(schedule, "fuse_rows", _same),
    ),
    "long_axes": Case(
        "values laid out with a long axis last",
        ("lstm-optimiser",),
        lambda: mock.patch.object(schedule, "long_axes_last", _same),
    ),
    "unroll_sums": Case(
        "short sums written out in full",
        ("lista-32-64-tied", "admm-lasso", "sinkhorn", "newton-schulz"),
        lambda: mock.patch.object(schedule, "unroll_sums", _same),
    ),
    "split_epilogue": Case(
        "functions of sums apart from the sums",
        ("soft-cancellation",),
        lambda: mock.patch.object(vector_results, "split_epilogue", lambda *_: None),
    ),
    "split_ranges": Case(
        "the borders of images apart, or in whole vectors",
        ("tv", "conv-ista", "plug-and-play"),
        lambda: mock.patch.object(schedule, "split_ranges", _same),
    ),
    "windows": Case(
        "rows of a convolution share what their windows have in common",
        ("conv-ista", "plug-and-play"),
        lambda: mock.patch.object(vector_results, "_windows", lambda *_: []),
    ),
    "in_sweeps": Case(
        "large values kept to a few rows (tiles)",
        ("rpca-1000", "rpca-100"),
        lambda: mock.patch.object(print_sources, "in_sweeps", _same),
    ),
    "half_products": Case(
        "symmetric matrices read by half, where they do not fit the first cache",
        ("fista", "ista-500-1000"),
        lambda: mock.patch.object(schedule, "half_products", _same),
    ),
    "recognise_structure": Case(
        "diagonal plus low rank, in the factored form",
        ("ista-64-256",),
        lambda: mock.patch.object(
            pipeline, "PASSES", tuple(p for p in pipeline.PASSES if p.__name__ != "recognise_structure")
        ),
    ),
    "side by side": Case(
        "problems of a batch as the elements of vectors",
        ("lista-32-64-tied", "lista-250-500-untied"),
        lambda: mock.patch.object(batch_form, "why_one_by_one", lambda *_: "switched off"),
        256,
    ),
}


def ista(atoms: int, measurements: int, threshold: float, folder: Path) -> tuple[Path, np.ndarray]:
    """Classical ISTA in the dense form as ONNX, and a measurement of few atoms."""
    generator = torch.Generator().manual_seed(SEED)
    A = torch.randn(measurements, atoms, generator=generator) / measurements**0.5
    x = torch.zeros(1, atoms)
    x[0, : atoms // 25] = torch.randn(atoms // 25, generator=generator).sign()
    network = unfoldc.unfold(Lista(A=A, rho=threshold), iterations=16, learn=["W1", "W2", "theta"], tied=["W1", "W2"])
    path = folder / f"ista-{measurements}-{atoms}.onnx"
    unfoldc.export_onnx(network.frozen(), (x @ A.T,), path, iterations="iteration")
    return path, (x @ A.T).numpy()


def prepared(name: str, batch: int, folder: Path) -> tuple[Path, list[np.ndarray]]:
    """A graph as ONNX, and its inputs."""
    if name.startswith("ista-"):
        measurements, atoms = map(int, name.split("-")[1:])
        path, y = ista(atoms, measurements, 0.1, folder)
        return path, [y]
    graph = find_graph(name)
    path = folder / f"{name}.onnx"
    if not path.exists():
        unfoldc.export_onnx(graph.module(), graph.example(3 if graph.dynamic else 1), path, iterations="iteration")
    return path, [t.numpy() for t in graph.example(batch, SEED)]


def measured(
    path: Path, inputs: list[np.ndarray], off: Off, sparse: bool = False, batch: int | None = None
) -> dict[str, Any]:
    """Seconds with and without; the answers must agree. `batch` is for models that are compiled for one."""
    with_it = unfoldc.compile(path, backend="c", cache=False, sparse=sparse, batch=batch).bind(inputs)
    with ExitStack() as stack:
        stack.enter_context(off())
        without = unfoldc.compile(path, backend="c", cache=False, batch=batch).bind(inputs)
    answers = [np.asarray(call()) for call in (with_it, without)]
    difference = float(np.linalg.norm(answers[0] - answers[1]) / np.linalg.norm(answers[1]))
    if not difference < 1e-4:
        raise ValueError(f"{path.stem}: the answers differ by {difference:.2g}")
    timed = interleaved({"with": with_it, "without": without}, rounds=25, seconds=0.01)
    gain = ratios(timed, "without", "with")
    seconds = {k: {n: v[n] for n in ("median", "quartile_1", "quartile_3")} for k, v in timed.items()}
    return {"seconds": seconds, "gain": gain, "difference": difference}


def main() -> None:
    """Runs the cases and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of transformations")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, case in CASES.items():
            for graph in case.graphs if not only or name in only.split(",") else ():
                path, inputs = prepared(graph, case.batch, folder)
                row = {"pass": name, "what": case.what, "graph": graph, "batch": case.batch}
                fixed = None if graph.startswith("ista-") or find_graph(graph).dynamic else case.batch
                rows.append({**row, **measured(path, inputs, case.off, batch=fixed)})
                print(f"{name:22} {graph:22} {case.batch:4}  {rows[-1]['gain']['median']:6.2f} times", flush=True)
        if not only or "skip_zeros" in only.split(","):
            path, y = ista(500, 250, 0.2, folder)
            zeros = float((np.asarray(unfoldc.compile(path, backend="c")(y)) == 0).mean())
            what = f"zeros of iterates skipped (`sparse=True`), {zeros:.0%} of the answer zero"
            row = {"pass": "skip_zeros", "what": what, "graph": "ista-250-500", "batch": 1}
            rows.append({**row, **measured(path, [y], ExitStack, sparse=True)})
            print(f"{'skip_zeros':22} {'ista-250-500':22} {1:4}  {rows[-1]['gain']['median']:6.2f} times")
    if not only:
        print(f"written to {write_results('passes', rows, [], {'graphs': SEED})}")


if __name__ == "__main__":
    main()
