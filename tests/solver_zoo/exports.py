"""The ways in which a solver becomes an ONNX file, and what PyTorch says that the file computes."""

from __future__ import annotations

import itertools
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import unfoldc
from solver_zoo.base import Entry, Unrolled
from unfoldc.export.trace import quiet

EXPORTERS, FORMS, OPSETS, DTYPES = ("ours", "torch"), ("layers", "loop"), range(18, 24), ("float32", "float64")
EXPORTED_BATCH, OTHER_BATCH = 3, 5


@dataclass(frozen=True)
class Way:
    """How a solver is exported; `exporter` is "ours" or "torch", the latter with its default optimiser."""

    exporter: str = "ours"
    form: str = "layers"
    opset: int = 20
    dtype: str = "float32"
    dynamic: bool = True

    def __str__(self) -> str:
        batch = "dynamic" if self.dynamic else "fixed"
        return f"{self.exporter}-{self.form}-opset{self.opset}-{self.dtype}-{batch}"


OURS, TORCH = Way("ours"), Way("torch")


@dataclass(frozen=True)
class Case:
    """An exported solver, inputs new to the export, and in float64 the outputs after 1, ..., K iterations."""

    entry: Entry
    way: Way
    path: Path
    iterations: int
    inputs: tuple[np.ndarray, ...]
    expected: list[tuple[np.ndarray, ...]]

    @property
    def tolerance(self) -> float:
        """The relative error allowed."""
        return self.entry.tolerance if self.way.dtype == "float32" else self.entry.tolerance64


def all_ways(entry: Entry) -> list[Way]:
    """The full cross product."""
    batches = (True, False) if entry.dynamic else (False,)
    return [Way(*parts) for parts in itertools.product(EXPORTERS, FORMS, OPSETS, DTYPES, batches)]


def sampled_way(entry: Entry, exporter: str, seed: int = 0) -> Way:
    """One of the ways of an exporter, the same in every run and in every process."""
    ways = [way for way in all_ways(entry) if way.exporter == exporter]
    return random.Random(f"{entry.name} {exporter} {seed}").choice(ways)


def make_case(entry: Entry, way: Way, iterations: int | None = None, check: bool = False) -> Case:
    """Export a solver with fresh weights, once for all processes of a test run, and compute what is right.

    check: let `export_onnx` compare ONNX Runtime with PyTorch, too.
    """
    count = iterations or entry.iterations
    solver = make_solver(entry, count)
    example = _problems(entry, way, count, EXPORTED_BATCH, 2)
    path = _folder() / f"{entry.name}-{way}-{count}.onnx"
    if check or not path.is_file():
        _export(
            _of_type(solver, way.dtype).unrolled(way.form, way.exporter == "ours"), entry, way, example, path, check
        )
    batch = OTHER_BATCH if way.dynamic else EXPORTED_BATCH
    inputs = _problems(entry, way, count, batch, 3)
    with torch.no_grad():
        right = make_solver(entry, count).double().iterates(*_as("float64", inputs))
    expected = [tuple(t.numpy() for t in outputs) for outputs in right]
    return Case(entry, way, path, count, tuple(t.numpy() for t in inputs), expected)


def make_solver(entry: Entry, iterations: int) -> Unrolled:
    """The solver with the weights that the zoo uses, in float32."""
    solver = entry.make(iterations, torch.Generator().manual_seed(1)).eval()
    return solver.requires_grad_(False)


def _export(solver: Unrolled, entry: Entry, way: Way, example: Sequence[Tensor], path: Path, check: bool) -> None:
    batched = [i for i in range(len(example)) if i not in entry.shared_inputs]
    with _aside(path) as aside:
        if way.exporter == "ours":
            unfoldc.export_onnx(
                solver, tuple(example), aside, opset=way.opset, check=check,
                batch="dynamic" if way.dynamic else "fixed", batch_inputs=batched if way.dynamic else None,
            )  # fmt: skip
            return
        batch = torch.export.Dim("batch")
        shapes = (tuple({0: batch} if i in batched else None for i in range(len(example))),) if way.dynamic else None
        with quiet():
            torch.onnx.export(
                solver, tuple(example), aside, dynamo=True, opset_version=way.opset, dynamic_shapes=shapes,
                verbose=False, external_data=False,
            )  # fmt: skip


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A path to write to; the file is renamed when it is complete, for another process may look for it."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        yield Path(folder) / path.name
        (Path(folder) / path.name).rename(path)


_own: list[tempfile.TemporaryDirectory[str]] = []


def _folder() -> Path:
    """Where the exports of this run are kept: beside its cache, which all workers share, else in a temporary folder."""
    if os.environ.get("PYTEST_XDIST_WORKER") or os.environ.get("PYTEST_VERSION"):
        folder = Path(os.environ["XDG_CACHE_HOME"]) / "solver-zoo"
        folder.mkdir(exist_ok=True)
        return folder
    if not _own:
        _own.append(tempfile.TemporaryDirectory(prefix="solver-zoo-"))
    return Path(_own[0].name)


def _problems(entry: Entry, way: Way, iterations: int, batch: int, seed: int) -> tuple[Tensor, ...]:
    """Inputs for the solver; those with a slice for each iteration on axis 1 are made long enough."""
    streams = [int(i) for i in entry.notes.get("stream", "").split(",") if i]
    tensors = list(entry.example(torch.Generator().manual_seed(seed), batch))
    for i in streams:
        repeats = -(-iterations // tensors[i].shape[1])
        tensors[i] = torch.cat([tensors[i]] * repeats, dim=1)[:, :iterations]
    return _as(way.dtype, tensors)


def _of_type(solver: Unrolled, dtype: str) -> Unrolled:
    return solver.double() if dtype == "float64" else solver


def _as(dtype: str, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    wanted = torch.float64 if dtype == "float64" else torch.float32
    return tuple(t.to(wanted) if t.is_floating_point() else t for t in tensors)
