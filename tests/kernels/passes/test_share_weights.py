from __future__ import annotations

from typing import Any

import numpy as np

from unfoldc.kernels.passes.share_weights import share_weights
from unfoldc.kernels.pipeline import optimise
from unfoldc.kernels.program import Program, TensorType
from unfoldc.kernels.reading.from_onnx import import_onnx


def size(program: Program) -> int:
    return sum(v.nbytes for v in program.constants.values())


def test_copies_become_one(workshop: Any) -> None:
    copied, tied = (import_onnx(workshop.saved(name, 4)).program for name in ("copied_weights", "ista_tied"))
    assert size(copied) > 3 * size(tied)
    assert size(share_weights(copied)) == size(tied)


def test_after_sharing_the_layers_are_tied(workshop: Any) -> None:
    program = optimise(import_onnx(workshop.saved("copied_weights", 4)).program)
    assert not program.segments[0].stacked


def test_equal_work_of_begin_is_done_once(workshop: Any) -> None:
    before = import_onnx(workshop.saved("parameters_made_outside", 4)).program
    after = share_weights(before)
    assert [n.operator for n in before.begin].count("Transpose") == 8
    assert [n.operator for n in after.begin].count("Transpose") == 5
    g = workshop.Graph()
    y = g.input("y", 2, 2)
    kept = [g("LeakyRelu", y, alpha=0.1), g("LeakyRelu", y, alpha=0.2), g("LeakyRelu", y), g("Relu", y)]
    g.k = 0
    program = workshop.imported(g.model(g("Sum", *kept))).program
    assert share_weights(program).begin == program.begin


def test_tied_weights_stay_tied_through_a_transpose(workshop: Any) -> None:
    program = optimise(import_onnx(workshop.saved("parameters_made_outside", 4)).program)
    shapes = sorted(program.constants[n].shape for n in program.segments[0].stacked)
    assert shapes == [(4, 6), (4, 6, 6)]
    assert sorted(v.shape for n, v in program.constants.items() if n not in program.segments[0].stacked)[-1] == (6, 4)


def test_only_equal_constants_are_shared() -> None:
    values: dict[str, np.ndarray] = {
        "a": np.zeros(2, np.float32),
        "same": np.zeros(2, np.float32),
        "double": np.zeros(2),
        "integer": np.zeros(2, np.int32),
        "column": np.zeros((2, 1), np.float32),
        "minus": np.array([0.0, -0.0], np.float32),
    }
    types = {k: TensorType(str(v.dtype), v.shape) for k, v in values.items()}
    program = share_weights(Program((), tuple(values), types, values, (), (), ()))
    assert program.outputs == ("a", "a", "double", "integer", "column", "minus")
    assert program.constants.keys() == values.keys() - {"same"}
