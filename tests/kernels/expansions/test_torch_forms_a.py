"""What torch.onnx.export makes of activations, norms, recurrences, einsum and attention compiles and is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import unfoldc

CHANNELS, WIDTH = 3, 5
PROBLEMS = 4


def same(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Softmax and its relatives, activations, mathematics."""
    f, unit = functional, torch.tanh(x)
    return {
        "softmax": f.softmax(x, -1),
        "log_softmax": f.log_softmax(x, 1),
        "logsumexp": torch.logsumexp(x, -1),
        "logsumexp of two axes": torch.logsumexp(x, (1, 2), keepdim=True),
        "logsumexp of infinities": torch.logsumexp(torch.where(x < 0.5, -torch.inf, x), 1),
        "logaddexp": torch.logaddexp(x, y),
        "gelu": f.gelu(x) + f.gelu(y, approximate="tanh"),
        "silu": f.silu(x),
        "mish": f.mish(x),
        "elu": f.elu(x, 0.75) + f.selu(y) + f.celu(y, 0.75),
        "hardtanh": f.hardtanh(x) + f.relu6(3 * y) + f.hardswish(y),
        "softplus": f.softplus(x) + f.softplus(y, 2.0, 3.0) + f.logsigmoid(y),
        "softsign": f.softsign(x) + f.threshold(x, 0.1, 0.0) + f.tanhshrink(y),
        "prelu": f.prelu(x, torch.tensor([0.25], dtype=x.dtype)),
        "atan2": torch.atan2(x, y),
        "remainder": torch.remainder(3 * x, 0.75) + torch.remainder(x, y),
        "fmod": torch.fmod(3 * x, 0.75) + torch.fmod(x, y),
        "arc": torch.atan(x) + torch.asin(unit) + torch.acos(unit),
        "hyperbolic": torch.sinh(x) + torch.cosh(x) + torch.asinh(y) + torch.acosh(1 + y * y) + torch.atanh(unit),
        "tan": torch.tan(unit),
        "triangles": torch.tril(x) + torch.triu(y, 1),
    }


class Functions(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return same(x, y)


class Norms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.batch = nn.BatchNorm1d(CHANNELS)
        self.group = nn.GroupNorm(2, 2 * CHANNELS)
        self.instance = nn.InstanceNorm1d(CHANNELS, affine=True)
        self.layer = nn.LayerNorm(WIDTH)
        self.layers = nn.LayerNorm((CHANNELS, WIDTH), bias=False)
        self.root = nn.RMSNorm(WIDTH)
        for value in (*self.parameters(), *self.batch.buffers()):
            if value.is_floating_point():
                nn.init.uniform_(value, 0.5, 2.0)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {
            "batch_norm": self.batch(x),
            "batch_norm of vectors": self.batch(x[..., 0]),
            "group_norm": self.group(torch.cat([x, y], 1)),
            "instance_norm": self.instance(x),
            "layer_norm": self.layer(x),
            "layer_norm without bias": self.layers(x),
            "rms_norm": self.root(x),
            "normalize": functional.normalize(x, dim=-1) + functional.normalize(y, p=1.0, dim=1),
        }


class Recurrences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, 4, batch_first=True, bidirectional=True)
        self.started = nn.LSTM(WIDTH, 4, batch_first=True)
        self.gru = nn.GRU(WIDTH, 4, batch_first=True, bidirectional=True)
        self.rnn = nn.RNN(WIDTH, 4, batch_first=True, nonlinearity="relu")
        self.lstm_cell, self.gru_cell = nn.LSTMCell(WIDTH, 4), nn.GRUCell(WIDTH, 4)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        every, (h, c) = self.lstm(x)
        gates, last = self.gru(y)
        h1, c1 = self.lstm_cell(x[:, 0])
        h2 = self.gru_cell(x[:, 1], h1)
        return {
            "lstm": every,
            "lstm states": torch.cat([h, c]).transpose(0, 1),
            "gru": gates,
            "gru state": last.transpose(0, 1),
            "rnn": self.rnn(x)[0],
            "cells": h2 + c1,
            "lstm from a state": self.started(x, (h1[None], c1[None]))[0],
        }


class Sums(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(CHANNELS, WIDTH))

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        e, first = torch.einsum, y[:, 0]
        return {
            "bij,bj->bi": e("bij,bj->bi", x, first),
            "ij,bj->bi": e("ij,bj->bi", self.W, first),
            "bi,bj->bij": e("bi,bj->bij", x[:, 0], first),
            "bii->bi": e("bii->bi", x @ y.mT),
            "three": e("bij,bkj,bkl->bil", x, y, y),
            "weights": e("ij,kj,bk->bi", self.W, self.W, x[:, :, 0]),
            "ellipsis": e("b...,b...->b...", x, y),
            "both": e("bij,bij->b", x, y),
            "bilinear": functional.bilinear(x[:, 0], first, torch.ones(2, WIDTH, WIDTH, dtype=x.dtype)),
            "attention": functional.scaled_dot_product_attention(x[:, None], y[:, None], y[:, None]),
        }


MODULES = {module.__name__: module for module in (Functions, Norms, Recurrences, Sums)}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


# Recurrences have the same form in all operator sets, and take the exporter longest.
LONG = ("Functions", "Recurrences")
FORMS = [(name, opset) for name in MODULES for opset in (18, 23) if (name, opset) != ("Recurrences", 23)]


@pytest.mark.parametrize(
    ("name", "opset"),
    [pytest.param(*form, marks=[pytest.mark.slow] * (form[1] == 23 or form[0] in LONG)) for form in FORMS],
)
def test_forms(name: str, opset: int, tmp_path: Path) -> None:
    torch.manual_seed(opset)
    module = MODULES[name]().eval()
    shape = (CHANNELS, WIDTH)
    x, y = (torch.randn(PROBLEMS, *shape) for _ in range(2))
    dynamic = ({0: torch.export.Dim("batch")},) * 2
    path = tmp_path / "form.onnx"
    with torch.no_grad():
        wanted = {key: value.numpy() for key, value in module.double()(x.double(), y.double()).items()}
        torch.onnx.export(
            module.float(), (x, y), path, dynamo=True, opset_version=opset, dynamic_shapes=dynamic, verbose=False
        )
    for backend, limit in (("reference", 1e-5), ("c", 1e-5)):
        solver = unfoldc.compile(path, backend=backend, cache=False)
        for count in (1, PROBLEMS):
            results = solver(x[:count].numpy(), y[:count].numpy())
            for (key, exact), found in zip(wanted.items(), results, strict=True):
                exact = exact[:count]
                assert np.shape(found) == exact.shape, key
                finite = np.isfinite(exact)
                assert (np.asarray(found)[~finite] == exact[~finite]).all(), key
                off = np.linalg.norm((np.asarray(found) - exact)[finite])
                assert off <= limit * np.linalg.norm(exact[finite]), f"{key} on {backend}: {off}"
