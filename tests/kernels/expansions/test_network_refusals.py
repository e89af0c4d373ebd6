"""Forms of network operators that no device could compute are refused with a reason; harmless extras are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from unfoldc.errors import ModelError
from unfoldc.kernels.printers.reference import evaluate

LENGTH, BATCH, SIZE, HIDDEN = 3, 2, 4, 5


def lstm(g: Any, lengths: Any = None, wide: int = SIZE, **attributes: Any) -> str:
    inputs = [g.input("x", LENGTH, BATCH, SIZE)]
    inputs += [g.weight("W", g.random("W", 1, 4 * HIDDEN, wide)), g.weight("R", g.random("R", 1, 4 * HIDDEN, HIDDEN))]
    if lengths is not None:
        data = g("Cast", g.input("n", BATCH), to=onnx.TensorProto.INT32) if lengths == "data" else ""
        inputs += ["", data or g.weight("n", lengths, "int32")]
    return str(g("LSTM", *inputs, hidden_size=HIDDEN, **attributes))


def batch_norm(g: Any, **attributes: Any) -> str:
    return str(g("BatchNormalization", g.input("x", 2, 3), *[g.weight("w", [1, 2, 3])] * 4, **attributes))


def attention(g: Any) -> str:
    q = g.input("q", 2, 1, 3, 4)
    past = [g.input(name, 2, 1, 3, 4) for name in ("pk", "pv")]
    return str(g("Attention", q, q, q, "", *past))


def group_norm(g: Any) -> str:
    return str(g("GroupNormalization", g.input("x", 2, 3, 4), *[g.weight("w", [1, 2, 3])] * 2, num_groups=2))


def one_hot(g: Any) -> str:
    return str(g("OneHot", g.input("i", 3, dtype="int64"), g.input("depth", dtype="int64"), g.weight("v", [0, 1])))


REFUSED: dict[str, tuple[Callable[[Any], str], str]] = {
    "lengths": (lambda g: lstm(g, [3, 2]), "sequences of different lengths"),
    "lengths of data": (lambda g: lstm(g, "data"), "sequences of different lengths"),
    "clip": (lambda g: lstm(g, clip=1.0), "attribute clip"),
    "coupled gates": (lambda g: lstm(g, input_forget=1), "attribute input_forget"),
    "activation": (lambda g: lstm(g, activations=["Sigmoid", "Affine", "Tanh"]), "affine"),
    "weights": (lambda g: lstm(g, wide=3), r"input 1 of shape \[1, 20, 3\], not \[1, 20, 4\]"),
    "training": (lambda g: batch_norm(g, training_mode=1), "evaluation mode"),
    "past": (attention, "of the past"),
    "groups": (group_norm, "2 groups of channels"),
    "depth": (one_hot, "must be a constant"),
    "norm": (lambda g: str(g("LpNormalization", g.input("x", 2, 3), p=3)), "p = 3"),
    "axis": (lambda g: str(g("Softmax", g.input("x", 2, 3), axis=2)), "axis 2 of a value with 2 axes"),
    "triangle": (lambda g: str(g("Trilu", g.input("x", 3))), "no triangle"),
}


def model_of(workshop: Any, make: Callable[[Any], str]) -> onnx.ModelProto:
    g = workshop.Graph(opset=23)
    model: onnx.ModelProto = g.model(make(g))
    return model


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, workshop: Any) -> None:
    make, reason = REFUSED[name]
    with pytest.raises(ModelError, match=reason):
        workshop.imported(model_of(workshop, make))


def test_full_lengths_and_default_activations_change_nothing(workshop: Any) -> None:
    x = np.random.default_rng(2).standard_normal((LENGTH, BATCH, SIZE)).astype(np.float32)
    results = [
        evaluate(workshop.imported(model_of(workshop, make)).program, {"x": x})[0]
        for make in (
            lstm,
            lambda g: lstm(g, [LENGTH] * BATCH),
            lambda g: lstm(g, activations=["Sigmoid", "Tanh", "Tanh"]),
        )
    ]
    assert np.abs(results[0]).max() > 0.01
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])
