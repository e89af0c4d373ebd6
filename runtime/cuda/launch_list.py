"""A form that is a list of launches over the whole batch: products of matrices, and elementwise kernels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Place:
    """A buffer. kind: "input", "output" or "weights" with that `index`, or "workspace".

    `first`: its first element there; in the workspace its first byte, times the rows that are reserved. `size`: the
    elements of a problem, 0 where all problems share them.
    """

    dtype: str
    kind: str
    index: int
    first: int
    size: int


@dataclass(frozen=True)
class Rows:
    """Rows of elements in a buffer: the first element of the first row, and of how far it is to the next row."""

    buffer: str
    first: int
    step: int


@dataclass(frozen=True)
class MatrixProduct:
    """`out = sign * x w^T (+ out where adds)`: w has m rows of n elements, or n rows of m where `transposed`.

    x has rows of n and out rows of m elements, `rows` for each problem. `per_iteration`: elements from one iteration's
    weights to the next one's.
    """

    weights: Rows
    per_iteration: int
    transposed: bool
    x: Rows
    out: Rows
    rows: int
    m: int
    n: int
    sign: int
    adds: bool
    type: str


@dataclass(frozen=True)
class Elementwise:
    """A kernel whose threads each make one of the `results` of each problem."""

    kernel: str
    results: int
    counts: bool = True
    """Whether it is told the number of the iteration; else it is told 0."""


Launch = MatrixProduct | Elementwise


@dataclass(frozen=True)
class LaunchList:
    """What is launched for begin, for the iterations `(first, count, launches)`, and for end.

    `rows`: memory in the workspace is reserved for a multiple of so many problems. `tf32`: whether products may round
    their factors to 10 bits.
    """

    rows: int
    tf32: bool
    places: Mapping[str, Place]
    begin: tuple[Launch, ...]
    steps: tuple[tuple[int, int, tuple[Launch, ...]], ...]
    end: tuple[Launch, ...]

    def reserved(self, batch: int) -> int:
        """The problems for which there is room in the workspace."""
        return -(-batch // self.rows) * self.rows

    @property
    def kernels(self) -> list[str]:
        """The names of all kernels."""
        parts = (self.begin, *(launches for _, _, launches in self.steps), self.end)
        return [x.kernel for part in parts for x in part if isinstance(x, Elementwise)]

    def main_kernel(self) -> Elementwise | None:
        """The kernel with most results in an iteration, else in begin or end; None where all are products."""
        inside = [x for _, _, launches in self.steps for x in launches if isinstance(x, Elementwise)]
        around = [x for x in (*self.begin, *self.end) if isinstance(x, Elementwise)]
        return max(inside or around, key=lambda x: x.results, default=None)

    def parts(self, iterations: int) -> Iterator[tuple[int, tuple[Launch, ...]]]:
        """The launches of begin, of so many iterations and of end, each part with the number of its iteration."""
        yield 0, self.begin
        for first, count, launches in self.steps:
            yield from ((k, launches) for k in range(first, min(first + count, iterations)))
        yield 0, self.end


def launch_list(found: Mapping[str, Any]) -> LaunchList:
    """The list that `<symbol>_launch.json` has; raises KeyError, TypeError or ValueError for anything else."""
    places = {
        str(name): Place(str(dtype), str(kind), int(index), int(first), int(size))
        for name, dtype, kind, index, first, size in found["buffers"]
    }
    if any(p.kind not in ("input", "output", "weights", "workspace") for p in places.values()):
        raise ValueError("a buffer that is nowhere")
    steps = tuple((int(s["first"]), int(s["count"]), _launches(s["launches"], places)) for s in found["steps"])
    rows = int(found["rows"])
    if rows < 1:
        raise ValueError("no rows")
    return LaunchList(
        rows, bool(found["tf32"]), places, _launches(found["begin"], places), steps,
        _launches(found["end"], places),
    )  # fmt: skip


def _launches(found: Sequence[Mapping[str, Any]], places: Mapping[str, Place]) -> tuple[Launch, ...]:
    return tuple(
        _product(x["product"], places)
        if "product" in x
        else Elementwise(str(x["kernel"]), int(x["results"]), bool(x["counts"]))
        for x in found
    )


def _product(x: Mapping[str, Any], places: Mapping[str, Place]) -> MatrixProduct:
    def rows(key: str) -> Rows:
        buffer, first, step = x[key]
        if places[buffer].dtype != x["type"]:
            raise ValueError(f"a product of {x['type']} with {places[buffer].dtype}")
        return Rows(str(buffer), int(first), int(step))

    if x["type"] not in ("float32", "float64"):
        raise ValueError(f"a product of {x['type']}")
    return MatrixProduct(
        rows("weights"), int(x["per_iteration"]), bool(x["transposed"]), rows("x"), rows("out"), int(x["rows"]),
        int(x["m"]), int(x["n"]), -1 if x["sign"] < 0 else 1, bool(x["adds"]), str(x["type"]),
    )  # fmt: skip
