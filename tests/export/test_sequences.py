from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from unfoldc.export import export_onnx, iterate
from unfoldc.export.listing import Listing, Marker, make_op
from unfoldc.export.sequences import remove_sequences


def node(kind: str, reads: str, made: str, **attributes: Any) -> Any:
    return make_op(helper.make_node(kind, reads.split(), made.split(), f"node_{made}", **attributes))


def constants(**arrays: Any) -> dict[str, onnx.TensorProto]:
    return {name: numpy_helper.from_array(np.asarray(array, np.int64), name) for name, array in arrays.items()}


def shaped(*dims: int | str) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(TensorProto.FLOAT, dims)


def test_chunks_become_one_split_under_the_names_of_what_was_picked() -> None:
    listing = Listing(
        (
            node("SplitToSequence", "y size", "s", axis=-1),
            node("SequenceAt", "s two", "c"),
            node("SequenceAt", "s zero", "a"),
            node("SequenceAt", "s last", "again"),
            node("Add", "a again", "x"),
        ),
        ("y",),
        ("x",),
        constants(size=2, zero=0, two=2, last=-1),
        types={"y": shaped("n", 5)},
        markers=(Marker(4, ("a",), ("b",)),),
    )
    found = remove_sequences(listing)
    assert [(op.kind, op.reads, op.outputs) for op in found.ops] == [
        ("Split", ("y", "s.lengths"), ("a", "s.1", "c")),
        ("Add", ("a", "c"), ("x",)),
    ]
    assert numpy_helper.to_array(found.constants["s.lengths"]).tolist() == [2, 2, 1]
    assert found.ops[0].proto.attribute[0].i == -1
    assert found.markers[0].at == 1


def test_parts_without_their_axis_are_picked_at_once() -> None:
    ops = (node("SplitToSequence", "y", "s", axis=1, keepdims=0), node("SequenceAt", "s one", "x"))
    found = remove_sequences(Listing(ops, ("y",), ("x",), constants(one=1)))
    assert [(op.kind, op.reads, op.outputs) for op in found.ops] == [("Gather", ("y", "one"), ("x",))]
    assert found.ops[0].proto.attribute[0].i == 1


@pytest.mark.parametrize("why", ["length of the axis", "position", "another reader", "an output"])
def test_what_is_not_known_stays(why: str) -> None:
    ops = [node("SplitToSequence", "y size", "s", axis=0), node("SequenceAt", "s at", "x")]
    if why == "another reader":
        ops.append(node("SequenceLength", "s", "n"))
    listing = Listing(
        tuple(ops),
        ("y", "at") if why == "position" else ("y",),
        ("x", "s") if why == "an output" else ("x",),
        constants(size=2, **({} if why == "position" else {"at": 0})),
        types={"y": shaped("n" if why == "length of the axis" else 4)},
    )
    assert [op.kind for op in remove_sequences(listing).ops][:2] == ["SplitToSequence", "SequenceAt"]


class Net(nn.Module):
    """Two iterations of a call, or of a recurrent cell."""

    def __init__(self, call: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.call = call
        self.cell = nn.LSTMCell(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros_like(x)
        for _ in range(2):
            if self.call is None:
                h, c = self.cell(x, (h, c))
                x, h, c = iterate(x + h, h, c)
            else:
                x = iterate(self.call(x))
        return x


@pytest.mark.parametrize(
    "call",
    [
        lambda x: torch.cat([t * (i + 1) for i, t in enumerate(torch.chunk(x, 3, 1))][::-1], 1),
        lambda x: torch.cat([torch.split(x, [1, 3, 1], 1)[1], x[:, :2]], 1),
        lambda x: torch.cat([t - 1 for t in reversed(torch.split(x, 2, -1))], 1),
        lambda x: torch.stack(x.unbind(1)[::-1], 1),
        None,
    ],
    ids=["chunk", "some", "split", "unbind", "lstm"],
)
def test_files_hold_no_sequences(tmp_path: Path, call: Callable[[Tensor], Tensor] | None) -> None:
    torch.manual_seed(1)
    report = export_onnx(Net(call), torch.randn(3, 5), tmp_path / "a.onnx", iterates=True)
    assert report.error is not None and report.error < 1e-6
    assert not any("Sequence" in node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node)
    assert report.iterations == 2
