from __future__ import annotations

from typing import Any

import pytest

from unfoldc.kernels.cost import cost
from unfoldc.kernels.passes.fold_constants import fold_constants
from unfoldc.kernels.passes.hoist_invariants import hoist_invariants
from unfoldc.kernels.passes.remove_dead import remove_dead
from unfoldc.kernels.passes.roll_iterations import roll_iterations
from unfoldc.kernels.passes.share_weights import share_weights
from unfoldc.kernels.program import Program
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.kernels.verify import verify_program


def rolled(workshop: Any, name: str, K: int = 4) -> Program:
    return fold_constants(roll_iterations(share_weights(import_onnx(workshop.saved(name, K)).program)))


@pytest.mark.parametrize("name", ["ista_tied", "fista", "copied_weights"])
def test_a_product_with_the_input_moves_to_begin(workshop: Any, name: str) -> None:
    before = rolled(workshop, name)
    after = hoist_invariants(before)
    assert cost(after).iterate_flops[0] == cost(before).iterate_flops[0] - 2 * 4 * 6
    assert cost(after).begin_flops == cost(before).begin_flops + 2 * 4 * 6


@pytest.mark.parametrize(("name", "K"), [("ista_untied", 4), ("ista_tied", 1), ("swap", 4)])
def test_what_changes_or_runs_once_stays(workshop: Any, name: str, K: int) -> None:
    before = rolled(workshop, name, K)
    assert hoist_invariants(before) == before


def test_an_untouched_state_is_no_invariant(workshop: Any) -> None:
    """The peeled first iteration's result is a state that later iterations only read: begin does not know it."""
    after = hoist_invariants(rolled(workshop, "shortcut"))
    verify_program(after)
    assert not {i for n in after.begin for i in n.inputs} & {s.name for s in after.states}


def test_a_view_moves_only_with_what_reads_it(workshop: Any) -> None:
    g = workshop.Graph()
    y, h = g.input("y", "batch", 4), g.input("H", 6, 4)
    x = g("MatMul", y, g("Transpose", h, perm=[1, 0]))
    for g.k in range(3):
        turned = g("Transpose", h, perm=[1, 0])
        x = g("Tanh", g("Add", g("MatMul", g("MatMul", x, h), turned), g("MatMul", y, turned)))
    before = fold_constants(roll_iterations(workshop.imported(g.model(x)).program))
    after = remove_dead(hoist_invariants(before))
    verify_program(after)
    assert [n.operator for n in after.segments[0].nodes].count("Transpose") == 1
    assert [n.operator for n in after.begin].count("MatMul") == 2
