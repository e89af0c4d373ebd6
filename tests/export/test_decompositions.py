"""Calls of torch that the exporter cannot translate, or not well, are taken apart before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from unfoldc.errors import ExportError
from unfoldc.export import export_onnx, iterate
from unfoldc.export.decompositions import _cumprod, _hypot


class Net(nn.Module):
    def __init__(self, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = iterate(self.call(x))
        return x


@pytest.mark.parametrize(
    "call",
    [
        lambda x: torch.hypot(x, 3 * x.flip(1)),
        lambda x: torch.cumprod(x, 1),
        lambda x: x * torch.tanh(torch.prod(torch.full((3,), 0.7))),
        lambda x: torch.hstack([x[:, 2:], x[:, :2]]),
        lambda x: torch.vstack([x, -x])[: x.shape[0]],
        lambda x: torch.dstack([x, -x])[..., 1],
        lambda x: torch.column_stack([x[:, 3], x[:, :3]]),
    ],
    ids=["hypot", "cumprod", "prod", "hstack", "vstack", "dstack", "column_stack"],
)
def test_calls_that_onnx_lacks(tmp_path: Path, call: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(3)
    report = export_onnx(Net(call), torch.randn(3, 4), tmp_path / "a.onnx")
    assert report.error is not None and report.error < 1e-6
    assert not any("Sequence" in node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node)


def test_a_long_product_is_not_taken_apart(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="`torch.cumprod` has no ONNX form"):
        export_onnx(Net(lambda x: torch.cumprod(x, 1)), torch.randn(2, 300), tmp_path / "a.onnx")


def test_hypot_at_the_edges() -> None:
    inf, nan = float("inf"), float("nan")
    values = torch.tensor([0.0, -0.0, 1e-30, 1e30, -3.0, inf, -inf, nan])
    a, b = torch.meshgrid(values, values, indexing="ij")
    torch.testing.assert_close(_hypot(a, b), torch.hypot(a, b), equal_nan=True, rtol=3e-7, atol=0)


def test_cumprod_at_the_edges() -> None:
    values = torch.tensor([[1e-30, 1e30, 1e30, -2.0], [0.0, float("inf"), 1.0, 2.0]])
    for dim in (0, 1, -1):
        torch.testing.assert_close(_cumprod(values, dim), torch.cumprod(values, dim), equal_nan=True)
    whole = torch.tensor([3, -2, 2], dtype=torch.int32)
    assert _cumprod(whole, 0).equal(torch.cumprod(whole, 0))
    assert _cumprod(torch.tensor(3.0), 0).equal(torch.tensor(3.0))
    assert _cumprod(whole, 0, dtype=torch.float64).dtype == torch.float64


def test_attention_with_masks(tmp_path: Path) -> None:
    """In float64, by the formula: a mask of truth values, and one that is added."""
    shown = torch.rand(3, 3, generator=torch.Generator().manual_seed(0)) > 0.4
    shown |= torch.eye(3, dtype=torch.bool)

    def call(x: Tensor) -> Tensor:
        heads = x[:, None, :, None].expand(-1, 1, 3, 2)
        attend = nn.functional.scaled_dot_product_attention
        hidden = attend(heads, heads, heads, attn_mask=shown)
        added = attend(heads, 0.3 * heads, heads, attn_mask=0.7 * shown.to(x.dtype), scale=0.9)
        return (hidden + added)[:, 0, :, 0]

    x = torch.randn(3, 3, dtype=torch.float64)
    report = export_onnx(Net(call), x, tmp_path / "a.onnx")
    assert report.error is not None and report.error < 1e-14
