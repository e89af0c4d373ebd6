from __future__ import annotations

from typing import Any

from unfoldc.kernels.cost import cost, flops
from unfoldc.kernels.pipeline import optimise
from unfoldc.kernels.reading.from_onnx import import_onnx


def test_an_iteration_of_ista(workshop: Any) -> None:
    """x <- soft(x W2 + b, theta) with n = 6: a product, then add, abs, sub, relu, sign, mul."""
    found = cost(optimise(import_onnx(workshop.saved("ista_tied", 4)).program))
    assert found.iterate_flops == (2 * 6 * 6 + 6 * 6,) * 4
    assert found.begin_flops == 2 * 4 * 6
    assert found.end_flops == 0
    # Reads W2, x, b and theta, writes x.
    assert found.iterate_bytes == (4 * (36 + 6 + 6 + 1 + 6),) * 4


def test_every_iteration_counts_by_itself(workshop: Any) -> None:
    found = cost(optimise(import_onnx(workshop.saved("first_differs", 4)).program))
    assert len(found.iterate_flops) == len(found.iterate_bytes) == 4
    assert found.iterate_flops[0] < found.iterate_flops[1] == found.iterate_flops[3]


def test_double_precision_takes_twice_the_bytes(workshop: Any) -> None:
    single, double = (cost(optimise(import_onnx(workshop.saved(name, 2)).program)) for name in ("ista_tied", "float64"))
    assert double.iterate_flops == single.iterate_flops
    assert double.iterate_bytes == tuple(2 * b for b in single.iterate_bytes)


def test_integers_are_no_floating_point(workshop: Any) -> None:
    g = workshop.Graph()
    n = g.input("n", 5, dtype="int64")
    program = workshop.imported(g.model(g("Cast", g("Add", n, n), to=1))).program
    assert flops(program, list(program.nodes())) == 0
