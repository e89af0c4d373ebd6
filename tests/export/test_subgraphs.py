from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from unfoldc.export import export_onnx, iterate
from unfoldc.export.subgraphs import bodies, canonical, captured, rename_captured


def branch(outside: str, inside: str, kind: str = "Neg") -> onnx.GraphProto:
    node = helper.make_node(kind, [outside], [inside], f"name_of_{inside}")
    node.metadata_props.append(onnx.StringStringEntryProto(key="pkg.torch.note", value="somewhere"))
    return helper.make_graph([node], f"graph_{inside}", [], [helper.make_tensor_value_info(inside, 1, [2])])


def conditional(outside: str, inside: str, kind: str = "Neg") -> onnx.NodeProto:
    then, other = branch(outside, f"{inside}_a", kind), branch(outside, f"{inside}_b", "Abs")
    return helper.make_node("If", ["c"], ["out"], then_branch=then, else_branch=other)


def test_values_read_from_outside() -> None:
    assert captured(conditional("x", "z")) == ("x",)
    inner = conditional("x", "z")
    body = helper.make_graph([inner], "outer", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, [2])])
    assert captured(helper.make_node("If", ["d"], ["o"], then_branch=body, else_branch=body)) == ("c", "x")


def test_nodes_that_differ_in_names_only_look_alike() -> None:
    assert canonical(conditional("x0", "z")) == canonical(conditional("x7", "w"))
    assert canonical(conditional("x0", "z")) != canonical(conditional("x0", "z", kind="Exp"))


def test_renaming_reaches_the_bodies_and_removes_notes() -> None:
    node = conditional("x", "z")
    for body in bodies(node):
        rename_captured(body, {"x": "iteration.0/Add_0", "z_a": "not touched"})
    assert captured(node) == ("iteration.0/Add_0",)
    assert [inner.output[0] for body in bodies(node) for inner in body.node] == ["z_b", "z_a"] or [
        inner.output[0] for body in bodies(node) for inner in body.node
    ] == ["z_a", "z_b"]
    assert not any(inner.metadata_props for body in bodies(node) for inner in body.node)


class Safeguarded(nn.Module):
    """An update taken only if the sum of its elements is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.randn(5, 5) / 3)

    def forward(self, y: Tensor) -> Tensor:
        for _ in range(3):
            z = y @ self.A
            y = iterate(torch.cond(z.sum() > 0, lambda z: z * 2, lambda z: z - 1, (z,)))
        return y


def test_iterations_with_a_condition(tmp_path: Path) -> None:
    torch.manual_seed(1)
    report = export_onnx(Safeguarded(), torch.randn(2, 5), tmp_path / "a.onnx", iterates=True)
    assert report.found_by == "3 markers, at the end of the loop's body"
    assert set(report.nodes.values()) == {0, 5}
    assert b"pkg.torch" not in report.path.read_bytes()
