from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from unfoldc.export import export_onnx
from unfoldc.export.labels import BEGIN, Labels
from unfoldc.export.listing import Listing, Marker, make_op
from unfoldc.export.tidy import merge_constants, remove_identities, remove_unused, rename_constants, shared_bytes

Export = Callable[..., Any]


def constants(**arrays: Any) -> dict[str, onnx.TensorProto]:
    return {name: numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()}


def ops(*nodes: tuple[str, str, str]) -> tuple[Any, ...]:
    return tuple(make_op(onnx.helper.make_node(k, r.split(), m.split(), f"node_{m}")) for k, r, m in nodes)


def test_equal_weights_become_one_under_the_first_name_of_the_order() -> None:
    weights = constants(b=np.ones(3, np.float32), a=np.ones(3, np.float32), c=np.ones((1, 3), np.float32))
    listing = Listing(
        ops(("Add", "y b", "s"), ("Mul", "s a", "t"), ("Sub", "t c", "x")), ("y",), ("x",), weights, frozenset("abc")
    )
    merged = merge_constants(listing, ["a", "b", "c"])
    assert set(merged.constants) == {"a", "c"}
    assert [op.reads for op in merged.ops] == [("y", "a"), ("s", "a"), ("t", "c")]


def test_types_and_signs_of_zero_keep_constants_apart() -> None:
    numbers = constants(a=np.float32(0.0), b=np.float32(-0.0), c=np.float64(0.0), d=np.int32(0))
    listing = Listing(ops(("Sum", "a b c d", "x")), (), ("x",), numbers)
    assert set(merge_constants(listing).constants) == set("abcd")


def test_a_weight_and_an_equal_number_of_the_code_stay_apart() -> None:
    numbers = constants(theta=np.float32(0.5), half=np.float32(0.5))
    listing = Listing(ops(("Add", "theta half", "x")), (), ("x",), numbers, frozenset(["theta"]))
    assert set(merge_constants(listing).constants) == {"theta", "half"}


def test_identities_go_and_markers_keep_their_place() -> None:
    listing = Listing(
        ops(("Neg", "y", "a"), ("Identity", "a", "b"), ("Identity", "b", "c"), ("Abs", "c", "x")),
        ("y",),
        ("x",),
        markers=(Marker(3, ("c",), ("d",)),),
    )
    tidied = remove_identities(listing)
    assert [op.kind for op in tidied.ops] == ["Neg", "Abs"]
    assert tidied.ops[1].reads == ("a",)
    assert tidied.markers == (Marker(1, ("a",), ("d",)),)


def test_unused_operations_and_constants_go_but_marked_states_stay() -> None:
    listing = Listing(
        ops(("Neg", "y", "x"), ("Add", "x c", "u"), ("Abs", "u", "dead"), ("Mul", "dead d", "deader")),
        ("y",),
        ("x",),
        constants(c=1.0, d=2.0),
    )
    pruned, labels = remove_unused(listing, Labels(1, (BEGIN, 0, 0, 0), marked=(("u",),)))
    assert [op.kind for op in pruned.ops] == ["Neg", "Add"]
    assert set(pruned.constants) == {"c"}
    assert labels.of == (BEGIN, 0)


def test_renamed_constants_keep_their_readers() -> None:
    listing = Listing(ops(("Add", "y w", "x")), ("y",), ("x",), constants(w=1.0), frozenset(["w"]))
    renamed = rename_constants(listing, {"w": "first.w", "absent": "z"})
    assert renamed.ops[0].reads == ("y", "first.w")
    assert renamed.parameters == {"first.w"}


def test_bytes_saved_by_sharing() -> None:
    listing = Listing(
        ops(("Add", "y w", "a"), ("Add", "a w", "b"), ("Add", "b w", "x")), ("y",), ("x",), constants(w=np.ones(4))
    )
    assert shared_bytes(listing, Labels(3, (0, 1, 2))) == (32, 96)


def test_tied_weights_are_stored_once_under_the_name_of_the_first_layer(export: Export) -> None:
    for form in ("tied", "same"):
        names = [t.name for t in export("Lista", 3, form).model.graph.initializer]
        assert [n for n in names if n.endswith("w2")] == ["layers.0.w2"]
    untied = [t.name for t in export("Lista", 3, "untied").model.graph.initializer]
    assert [n for n in untied if n.endswith("w2")] == [f"layers.{k}.w2" for k in range(3)]


def test_constants_are_initializers_and_all_of_them_are_read(export: Export) -> None:
    for arguments in (("Loop", 3, "end", True, "zeros"), ("Fista", 3), ("Momentum", 3)):
        graph = export(*arguments).model.graph
        assert all(node.op_type != "Constant" for node in graph.node)
        read = {name for node in graph.node for name in node.input}
        assert {t.name for t in graph.initializer} <= read


def test_nodes_are_unoptimised_so_that_iterations_stay_alike(export: Export) -> None:
    graph = export("Lista", 3, "tied").model.graph
    by_part: dict[str, list[str]] = {}
    for node in graph.node:
        part, _, rest = node.name.partition("/")
        by_part.setdefault(part, []).append(rest)
    assert by_part["iteration.0"] == by_part["iteration.1"] == by_part["iteration.2"]
    assert len({node.name for node in graph.node}) == len(graph.node)


@pytest.mark.parametrize("arguments", [("Lista", 3, "tied"), ("Admm", 3, "end")], ids=str)
def test_the_same_module_gives_the_same_bytes(export: Export, arguments: tuple[Any, ...], tmp_path: Path) -> None:
    exported = export(*arguments)
    torch.manual_seed(99)  # what is drawn for the check must not show
    export_onnx(exported.module, torch.randn(4, 5), tmp_path / "again.onnx", iterates=True)
    assert (tmp_path / "again.onnx").read_bytes() == exported.report.path.read_bytes()


def test_the_file_says_nothing_of_this_machine(export: Export) -> None:
    text = export("Lista", 3, "tied").report.path.read_bytes()
    assert str(Path.cwd()).encode() not in text
    assert b"site-packages" not in text
    assert b"pkg.torch" not in text


def test_names_that_collide_with_inputs_and_outputs(solvers: ModuleType, tmp_path: Path) -> None:
    class Net(solvers.Lista):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__(2)
            self.x = torch.nn.Parameter(torch.ones(8))

        def forward(self, y: torch.Tensor) -> torch.Tensor:
            return super().forward(y) * self.x  # type: ignore[no-any-return]

    export_onnx(Net(), torch.randn(3, 5), tmp_path / "a.onnx")
    graph = onnx.load(tmp_path / "a.onnx").graph
    assert [value.name for value in graph.output] == ["x"]
    assert "parameter.x" in [t.name for t in graph.initializer]
