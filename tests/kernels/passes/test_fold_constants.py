from __future__ import annotations

from typing import Any

import numpy as np

from unfoldc.kernels.cost import cost
from unfoldc.kernels.passes.fold_constants import fold_constants
from unfoldc.kernels.passes.remove_dead import remove_dead
from unfoldc.kernels.passes.roll_iterations import roll_iterations
from unfoldc.kernels.passes.share_weights import share_weights
from unfoldc.kernels.program import Program
from unfoldc.kernels.reading.from_onnx import import_onnx


def prepared(workshop: Any, K: int = 3) -> Program:
    """x <- tanh(x exp(W)' + exp(t_k) + b), with the transpose of W outside and that of t inside the iteration."""
    g = workshop.Graph()
    b = g("Neg", g.weight("b", [0.1] * 6))
    w = g("Transpose", g.weight("W", workshop.random("W", 6, 6)), perm=[1, 0])
    x = g.input("x", "batch", 6)
    for g.k in range(K):
        t = g("Transpose", g("Exp", g.weight(f"t{g.k}", workshop.random(f"t{g.k}", 6, 1))), perm=[1, 0])
        x = g("Tanh", g("Add", g("MatMul", x, g("Exp", w)), g("Add", t, b)))
    return roll_iterations(share_weights(workshop.imported(g.model(x)).program))


def test_what_depends_on_constants_alone_is_computed_once(workshop: Any) -> None:
    before = prepared(workshop)
    after = remove_dead(fold_constants(before))
    operators = [[n.operator for n in p.segments[0].nodes] for p in (before, after)]
    assert sorted(operators[0]) == ["Add", "Add", "Exp", "Exp", "MatMul", "Tanh", "Transpose"]
    assert operators[1] == ["MatMul", "Add", "Tanh"]
    assert cost(after).iterate_flops < cost(before).iterate_flops


def test_slices_are_folded_one_by_one(workshop: Any) -> None:
    before, after = prepared(workshop), fold_constants(prepared(workshop))
    (stack,) = before.segments[0].stacked
    (folded,) = (after.constants[n] for n in after.segments[0].stacked if after.types[n].shape == (1, 6))
    np.testing.assert_allclose(folded[:, 0], np.exp(before.constants[stack][:, :, 0]) - np.float32(0.1), rtol=1e-6)


def test_views_cost_nothing_and_stay(workshop: Any) -> None:
    program = fold_constants(roll_iterations(import_onnx(workshop.saved("wide", 3)).program))
    assert [n.operator for n in program.segments[0].nodes].count("Transpose") == 1
    assert sum(v.nbytes for v in program.constants.values() if v.ndim > 1) == 4 * 19 * 4


def test_selections_are_folded(workshop: Any) -> None:
    """theta[k] and B[k] would otherwise drag the whole table and an index along."""
    program = remove_dead(fold_constants(roll_iterations(import_onnx(workshop.saved("step_from_table", 3)).program)))
    assert not {"Gather", "Slice"} & {n.operator for n in program.nodes()}
    assert sorted(program.constants[n].shape for n in program.segments[0].stacked) == [(3,), (3, 1, 6)]


def test_what_begin_makes_from_the_inputs_is_left(workshop: Any) -> None:
    program = import_onnx(workshop.saved("heavy_ball", 3)).program
    assert "MatMul" in [n.operator for n in fold_constants(roll_iterations(program)).begin]
