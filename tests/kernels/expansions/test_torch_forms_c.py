"""What torch.onnx.export writes for searching, sorting, running sums, indexing and assignment compiles and is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import unfoldc
from unfoldc.kernels import build
from unfoldc.kernels.inspect import describe
from unfoldc.kernels.loops import Load
from unfoldc.kernels.lower import lower
from unfoldc.kernels.pipeline import load_program

torch.set_num_threads(1)
N, K = 6, 3
Tensors = tuple[torch.Tensor, ...]


def assigned(x: torch.Tensor, where: Any, value: Any) -> torch.Tensor:
    y = x.clone()
    y[where] = value
    return y


def search(x: torch.Tensor) -> Tensors:
    return (
        x.argmax(-1),
        x.argmin(1, keepdim=True),
        *x.max(-1),
        *x.min(1, keepdim=True),
        x.amax(-1),
        *torch.topk(x, 3),
        *torch.topk(x, 1, largest=False),
        x.topk(2, largest=False, sorted=False)[0].sum(-1),
        *torch.sort(x, descending=True),
        x.argsort(-1),
        torch.quantile(x, 0.4, dim=-1),
        torch.nn.functional.one_hot(x.argmax(-1), N).to(x.dtype) * x,
        torch.msort(x.t()).t(),
    )


def running(x: torch.Tensor) -> Tensors:
    image = x.reshape(-1, 2, 3)
    return (
        x.cumsum(-1),
        image.cumsum(1),
        x.logcumsumexp(-1),
        x.diff(dim=-1),
        torch.cumulative_trapezoid(x),
        x.flip(-1),
        image.flip(1, 2),
        torch.rot90(image, 1, (1, 2)),
        x.roll(2, -1),
        image.roll((1, -1), (1, 2)),
        x.repeat(1, 2),
        x.tile(2),
        x.repeat_interleave(2, dim=1),
        torch.stack([x, x * 2], 1),
        torch.stack(x.unbind(1)[::-1], 1),
        x.split(2, 1)[1] + x.chunk(3, 1)[0] * x.tensor_split(3, 1)[2],
    )


def reading(x: torch.Tensor) -> Tensors:
    image = x.reshape(-1, 2, 3)
    return (
        x.gather(1, x.argsort(-1)),
        x.index_select(1, torch.tensor([2, 0, 0])),
        x[:, torch.tensor([2, 0, -1])],
        x[:, torch.tensor([True, False, True, True, False, True])],
        x[:, torch.tensor([1, 0, 1, 0, 0, 0]).nonzero().squeeze(-1)],
        image[:, torch.tensor([1, 0]), torch.tensor([2, -1])],
        image[:, torch.tensor([[1], [0]]), torch.tensor([[2, -1]])],
        image[:, :, torch.tensor([2, 0])],
        x.unfold(1, 3, 2),
        x.narrow(1, 1, 3),
        torch.diagonal(x[:, None, :] * x[:, :, None], dim1=1, dim2=2),
        torch.diagonal(x[:, None, :] * x[:, :, None], offset=1, dim1=1, dim2=2),
        torch.diag_embed(x),
        torch.tril(x[:, None, :] * x[:, :, None]),
        torch.triu(x[:, None, :] * x[:, :, None], 1),
        torch.tensor([0.5, -1.0, 2.0, 0.25, 3.0, -2.0], dtype=x.dtype)[x.argsort(-1)],
    )


def writing(x: torch.Tensor) -> Tensors:
    every, image, order = slice(None), x.reshape(-1, 2, 3), x.argsort(-1)
    places = torch.tensor([2, 0, 5])
    return (
        assigned(x, (every, slice(1, 3)), x[:, 3:5]),
        assigned(x, (every, slice(0, None, 2)), 0.5),
        assigned(x, (every, places), x[:, :3] * 2),
        assigned(x, (every, -1), x[:, 0] * 2),
        assigned(image, (every, 1, slice(1, 3)), image[:, 0, :2]),
        x.slice_scatter(x[:, :2], 1, 2, 6, 2),
        x.select_scatter(x[:, 0], 1, 3),
        x.index_copy(1, places, x[:, :3]),
        x.index_fill(1, places, 3.0),
        x.index_add(1, torch.tensor([2, 0, 2]), x[:, :3]),
        x.index_add(1, torch.tensor([4, 1, 4, 4, 4, 4]), x),
        x.scatter(1, order[:, :4], x[:, :4] * 2),
        x.scatter_add(1, order % 2, x),
        x.scatter_reduce(1, order, x * 2, "amax"),
        torch.where(x > 0, x, -x),
        x.masked_fill(x > 0, 2.0),
    )


class Forms(nn.Module):
    """The outputs of a function."""

    def __init__(self, forms: Callable[[torch.Tensor], Tensors]) -> None:
        super().__init__()
        self.forms = forms

    def forward(self, x: torch.Tensor) -> Tensors:
        return self.forms(x)


def exported(module: nn.Module, path: Path, x: torch.Tensor, opset: int) -> Path:
    options: dict[str, Any] = {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "external_data": False}
    torch.onnx.export(module.eval(), (x,), path, dynamo=True, opset_version=opset, verbose=False, **options)
    return path


def close(found: Any, wanted: Tensors) -> None:
    arrays = list(found.values()) if isinstance(found, dict) else list(found)
    assert len(arrays) == len(wanted)
    for position, (one, right) in enumerate(zip(arrays, wanted, strict=True)):
        other = right.numpy()
        assert one.shape == other.shape, position
        if other.dtype.kind == "i":
            np.testing.assert_array_equal(one, other, err_msg=str(position))
        else:
            assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other), position


@pytest.mark.parametrize("opset", [18, pytest.param(23, marks=pytest.mark.slow)])
@pytest.mark.parametrize("forms", [search, running, reading, writing])
def test_forms(forms: Callable[[torch.Tensor], Tensors], opset: int, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(opset)
    path = exported(Forms(forms), tmp_path / "model.onnx", torch.randn(3, N, generator=generator), opset)
    x = torch.randn(7, N, generator=generator)
    for backend in ("reference", "c") if opset == 18 else ("reference",):
        close(unfoldc.compile(path, backend=backend)(x.numpy()), forms(x.double()))


class Stream(nn.Module):
    """Iteration k reads and writes element k, from the front, from the back, every second one, and a block."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        k = self.k
        x = 0.5 * x + y[:, k : k + 1] - y[:, -1 - k, None] * x.roll(1, 1)
        x = assigned(x, (slice(None), k), y[:, 2 * k] * x[:, K - k])
        x = assigned(x, (slice(None), slice(2 * k, 2 * k + 2)), -x[:, 2 * k : 2 * k + 2])
        return assigned(x, (slice(None), slice(k, k + 9, 2)), y[:, k : k + 5])


class Streams(nn.Module):
    """K iterations."""

    def __init__(self) -> None:
        super().__init__()
        self.its = nn.ModuleList(Stream(k) for k in range(K))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        x = y.flip(-1)
        for layer in self.its:
            x = layer(x, y)
        return x


def test_streams_are_read_and_written_by_the_number_of_the_iteration(tmp_path: Path) -> None:
    y = torch.randn(7, 2 * N, generator=torch.Generator().manual_seed(1))
    path = exported(Streams(), tmp_path / "stream.onnx", y[:3], 18)
    for backend in ("reference", "c"):
        close([unfoldc.compile(path, backend=backend)(y.numpy())], (Streams()(y.double()),))
    assert [s.count for s in describe(path).segments] == [K]
    loops = lower(load_program(path)[1])
    (step,) = loops.steps
    read = [e for s in step.body for top in build.expressions(s) for e in build.walk(top) if isinstance(e, Load)]
    assert not [e for e in read if loops.buffers[e.buffer].dtype != "float32"]  # no table of places
