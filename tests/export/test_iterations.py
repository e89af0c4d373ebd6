from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

LISTA = ["Transpose", "MatMul", "Transpose", "MatMul", "Add", "Sign", "Abs", "Sub", "Relu", "Mul"]
LOOP = ["Transpose", "MatMul", "Add", "Gather", "Sign", "Abs", "Sub", "Relu", "Mul"]
Export = Callable[..., Any]


def alike(exported: Any) -> list[list[str]]:
    return [exported.operators(f"iteration.{k}") for k in range(exported.report.iterations)]


@pytest.mark.parametrize("form", ["tied", "untied", "same"])
def test_items_of_a_module_list(export: Export, form: str) -> None:
    exported = export("Lista", 3, form)
    assert exported.report.found_by == "3 items of `layers`"
    assert alike(exported) == [LISTA] * 3
    assert exported.operators("end") == ["Identity"] * 3
    assert exported.metadata["iterations"] == 3
    assert exported.metadata["states"][-1] == ["x"]
    assert exported.metadata["state_names"] == ["x"]


@pytest.mark.parametrize("count", [1, 2])
def test_few_items(export: Export, count: int) -> None:
    exported = export("Lista", count, "tied")
    assert alike(exported) == [LISTA] * count
    assert len(exported.metadata["states"]) == count


@pytest.mark.parametrize(
    ("where", "hoisted", "start"),
    [
        ("end", True, "zeros"),
        ("end", False, "product"),
        ("end", True, "product"),
        ("end", True, "prox"),
        ("start", False, "product"),
        ("start", True, "prox"),
    ],
)
def test_marker_in_a_plain_loop(export: Export, where: str, hoisted: bool, start: str) -> None:
    """What runs before the loop is `begin`, even where it equals part of an iteration; what runs after it is `end`."""
    exported = export("Loop", 3, where, hoisted, start)
    assert exported.report.found_by == f"3 markers, at the {where} of the loop's body"
    inside = ["Transpose", "MatMul"] if not hoisted else []
    assert [sorted(kinds) for kinds in alike(exported)] == [sorted([*LOOP, *inside])] * 3
    begin = exported.operators("begin")
    assert begin[:2] == ["Transpose", "MatMul"]
    assert ("Sign" in begin) == (start == "prox")
    own = [node.op_type for node in exported.part("end") if not node.name.startswith("end/iterate.")]
    assert own == ["MatMul", "Tanh", "Identity"]


@pytest.mark.parametrize(("count", "where"), [(1, "end"), (2, "end"), (2, "start")])
def test_marker_in_a_short_loop(export: Export, where: str, count: int) -> None:
    exported = export("Loop", count, where, True, "zeros")
    assert exported.report.iterations == count
    assert all(set(LOOP) <= set(body) for body in alike(exported))
    assert "Expand" in exported.operators("begin")
    if count == 2:
        assert alike(exported) == [LOOP, LOOP]
        assert "MatMul" in exported.operators("begin")


def test_momentum_with_markers_at_the_end_keeps_its_last_update(export: Export) -> None:
    exported = export("Fista", 3)
    assert exported.metadata["state_names"] == ["x", "v"]
    assert len({tuple(body) for body in alike(exported)}) == 1
    assert all(all(row) for row in exported.metadata["states"])


def test_momentum_with_markers_at_the_start_lacks_the_update_that_nobody_reads(export: Export) -> None:
    exported = export("Fista", 3, "start")
    *whole, last = alike(exported)
    assert whole[0] == whole[1]
    assert len(last) == len(whole[0]) - 3
    assert exported.metadata["states"][-1] == ["x", ""]


def test_momentum_in_front_of_the_items_belongs_to_the_iteration_that_follows(export: Export) -> None:
    exported = export("Momentum", 3)
    assert len({tuple(body) for body in alike(exported)}) == 1
    assert alike(exported)[0][:3] == ["Sub", "Mul", "Add"]
    states = exported.metadata["states"]
    assert [row[1] for row in states[1:]] == [row[0] for row in states[:-1]]  # the previous iterate


def test_momentum_after_the_items_belongs_to_the_iteration_before(export: Export) -> None:
    exported = export("Momentum", 3, True)
    *whole, last = alike(exported)
    assert all(body == whole[0] for body in whole)
    assert whole[0] == [*last, "Sub", "Mul", "Add"]
    assert exported.metadata["states"][-1] == ["x", ""]


def test_residual_in_front_of_the_items(export: Export) -> None:
    exported = export("Residual", 3)
    assert alike(exported) == [["Transpose", "MatMul", "Sub", "Gemm", "Add"]] * 3
    assert exported.metadata["state_names"] == ["x"]


def test_what_follows_an_item_stays_with_it_though_it_runs_in_front_of_the_first_too(export: Export) -> None:
    exported = export("Activations", 3, iterates=False)
    assert exported.operators("begin") == ["MatMul", "Relu"]
    assert alike(exported) == [["Gemm", "Add", "Relu"]] * 3


@pytest.mark.parametrize("where", ["end", "start"])
def test_admm_has_two_states_for_x_is_not_read(export: Export, where: str) -> None:
    exported = export("Admm", 3, where)
    states = exported.metadata["states"]
    assert [len(row) for row in states] == [2] * 3
    assert states[-1][0] == "x"
    first = exported.part("iteration.1")
    read = {name for node in first for name in node.input}
    assert set(states[0]) <= read


@pytest.mark.parametrize(("count", "where"), [(2, "end"), (3, "end"), (3, "start")])
def test_a_state_that_passes_by_the_marker(export: Export, where: str, count: int) -> None:
    exported = export("Admm", count, where, True)
    *whole, last = alike(exported)
    assert all(body == [*last, "Add", "Sub"] for body in whole)
    assert len(exported.metadata["state_names"]) == 2
    assert exported.operators("begin") == export("Admm", 3, where).operators("begin")


def test_a_state_of_its_own_that_passes_by_the_marker(export: Export) -> None:
    exported = export("Cooling", 3)
    *whole, last = alike(exported)
    assert all(sorted(body) == sorted([*last, "Mul"]) for body in whole)
    assert exported.operators("begin").count("ReduceMean") == 1


def test_layers_that_return_two_states(export: Export) -> None:
    exported = export("AdmmLayers", 3)
    assert len(exported.metadata["state_names"]) == 2
    assert exported.metadata["states"][-1] == ["x", ""]


def test_a_first_iteration_unlike_the_others(export: Export) -> None:
    exported = export("FirstDiffers", 3)
    assert "iteration 0 differs" in exported.report.found_by
    assert exported.operators("begin") == ["Transpose", "MatMul"]
    assert [len(body) for body in alike(exported)] == [5, 8, 8]


def test_what_the_first_item_computes_for_all_is_begin(export: Export) -> None:
    exported = export("Caching", 3)
    assert exported.operators("begin").count("MatMul") == 1
    assert [body.count("MatMul") for body in alike(exported)] == [1, 1, 1]


def test_items_that_differ(export: Export) -> None:
    exported = export("Unalike", iterates=False)
    assert alike(exported) == [["Gemm"], ["Gemm", "Relu"], ["Gemm"]]


def test_only_the_first_items_run(export: Export, solvers: ModuleType, tmp_path: Any) -> None:
    from unfoldc.export import export_onnx

    def first_two(module: Any, y: torch.Tensor) -> torch.Tensor:
        for layer in module.layers[:2]:
            y = layer(y)
        return y

    report = export_onnx(solvers.Calls(first_two), torch.ones(2, 4), tmp_path / "a.onnx", check=False)
    assert report.found_by == "2 items of `layers`, which has 3"


def test_no_node_reads_from_a_later_part(export: Export) -> None:
    for arguments in (("Lista", 3, "tied"), ("Momentum", 3, True), ("Admm", 3, "end", True), ("FirstDiffers", 3)):
        exported = export(*arguments)
        order = ["begin", *(f"iteration.{k}" for k in range(exported.report.iterations)), "end"]
        parts = [node.name.split("/")[0] for node in exported.model.graph.node]
        assert [order.index(p) for p in parts] == sorted(order.index(p) for p in parts)
