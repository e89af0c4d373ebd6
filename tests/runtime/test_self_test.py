"""The problem of a self-test: drawn, answered in float64, tried on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from unfoldc.errors import ToolError
from unfoldc.kernels.pipeline import compile_onnx
from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.self_test import draw_self_test
from unfoldc.targets import find_target


class Device:
    """Answers with float32 arithmetic of its own, wrong by the factor `error`."""

    def __init__(self, f: Callable[[np.ndarray], np.ndarray], error: float = 0.0) -> None:
        self.f, self.error, self.calls = f, error, 0

    def solve(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int, iterations: int) -> None:
        self.calls += 1
        outputs[0][...] = self.f(inputs[0]) * (1 + self.error)

    def profile(self, *_: Any) -> None:
        raise AssertionError


def build(tmp_path: Path, operator: str, kind: int = TensorProto.FLOAT, count: int = 2) -> Build:
    """y = f(f(x)), f once in each iteration."""
    values = ["x", *(f"z{k}" for k in range(1, count)), "y"]
    nodes = [helper.make_node(operator, [values[k]], [values[k + 1]], name=f"iteration.{k}/f") for k in range(count)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, ["batch", 6])],
        [helper.make_tensor_value_info("y", kind, ["batch", 6])],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    artifact = compile_onnx(path, find_target("rv64gc").spec, "c", symbol="s")
    return Build(artifact, tmp_path, "rv64gc", "emulated", model="m.onnx", options={"batch": None, "dimensions": None})


def test_the_answer_is_numpys_and_the_same_each_time(tmp_path: Path) -> None:
    made = build(tmp_path, "Tanh")
    test = draw_self_test(made, Device(lambda x: np.tanh(np.tanh(x))))
    again = draw_self_test(made, Device(lambda x: np.tanh(np.tanh(x))))
    np.testing.assert_array_equal(test.inputs[0], again.inputs[0])
    assert test.inputs[0].shape == (6,) and test.inputs[0].dtype == np.float32 and test.note == ""
    right = np.tanh(np.tanh(test.inputs[0].astype(np.float64)))
    np.testing.assert_array_equal(test.expected[0], right.astype(np.float32))
    (allowed,) = test.allowed
    assert allowed == pytest.approx(1e-4 * np.abs(right).max()) and test.tolerance == 1e-4


def test_float64_is_held_to_more(tmp_path: Path) -> None:
    test = draw_self_test(build(tmp_path, "Tanh", TensorProto.DOUBLE), Device(lambda x: np.tanh(np.tanh(x))))
    assert test.tolerance == 1e-9 and test.expected[0].dtype == np.float64 and test.note == ""


def test_smaller_numbers_are_tried_where_the_answer_is_not_finite(tmp_path: Path) -> None:
    """exp four times overflows for what is above 0.4; the logarithm of a logarithm is often no number at any size."""
    test = draw_self_test(build(tmp_path, "Exp", count=4), Device(lambda x: np.exp(np.exp(np.exp(np.exp(x))))))
    first = np.random.default_rng(0).standard_normal(6)
    assert not np.array_equal(test.inputs[0], first.astype(np.float32)) and test.inputs[0].max() < 0.5 < first.max()
    assert np.isfinite(test.expected[0]).all() and "not finite" not in test.note
    logarithm = draw_self_test(build(tmp_path, "Log"), Device(np.log))
    assert "not finite" in logarithm.note and not np.isfinite(logarithm.expected[0]).all()


def test_a_device_that_is_off_widens_the_tolerance_and_says_so(tmp_path: Path) -> None:
    device = Device(lambda x: np.tanh(np.tanh(x)), error=1e-3)
    test = draw_self_test(build(tmp_path, "Tanh"), device)
    assert device.calls == 5 and test.tolerance == pytest.approx(2e-3, rel=0.01)
    assert "magnifies rounding" in test.note and "0.002" in test.note


def test_a_device_whose_answer_is_no_number_keeps_the_tolerance(tmp_path: Path) -> None:
    test = draw_self_test(build(tmp_path, "Tanh"), Device(lambda x: x * np.nan))
    assert test.tolerance == 1e-4 and "the self-test fails" in test.note


def test_without_an_emulator_the_test_is_not_tried(tmp_path: Path) -> None:
    class Missing(Device):
        def solve(self, *_: Any) -> None:
            raise ToolError("running", "QEMU is not installed", "QEMU", "Install it.")

    test = draw_self_test(build(tmp_path, "Tanh"), Missing(np.tanh))
    assert test.note == "The self-test was not tried on the device: QEMU is not installed." and test.tolerance == 1e-4
