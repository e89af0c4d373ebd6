"""Float64 models keep all digits of the numbers in the module's code, and float32 models look as before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from solver_zoo.registry import SOLVERS
from torch import Tensor, nn
from torch.nn import functional

from unfoldc.export import export_onnx, iterate
from unfoldc.export.check import relative_error
from unfoldc.export.digits import arguments, keep_digits
from unfoldc.export.engines import load

Call = Callable[[Tensor], Tensor]


def attention(x: Tensor, **options: Any) -> Tensor:
    return functional.scaled_dot_product_attention(x, x, x, **options)


CALLS: dict[str, Call] = {
    "mul, add": lambda x: 0.1 * x + 5 / 3,
    "clamp": lambda x: torch.clamp(x, min=0.1) + torch.clamp(x, -0.3, 0.7),
    "power": lambda x: x.abs() ** 1.3 + 1.7**x,
    "norm": lambda x: torch.linalg.vector_norm(x, 1.3, dim=1, keepdim=True) + x,
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.3) + torch.addcdiv(x, x, x + 9.1, value=0.7),
    "lerp": lambda x: torch.lerp(x, x * x, 0.7) + torch.lerp(x, x * x, 0.3),
    "threshold": lambda x: functional.threshold(x, 0.1, 0.3),
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.1) + functional.leaky_relu(x),
    "elu": lambda x: functional.elu(x, 0.3) + functional.selu(x) + functional.celu(x, 0.7),
    "hard": lambda x: functional.hardsigmoid(x) + functional.hardswish(x) + functional.hardtanh(x, -0.1, 0.3),
    "shrink": lambda x: functional.softshrink(x, 0.1) + functional.hardshrink(x, 0.3),
    "softplus": lambda x: functional.softplus(x, beta=1.1, threshold=2.3),
    "gelu": lambda x: functional.gelu(x) + functional.gelu(x, approximate="tanh"),
    "full": lambda x: x + torch.full_like(x, 0.1) + torch.full((3,), 0.3, dtype=x.dtype) + x.new_full((3,), 0.7),
    "zeros": lambda x: torch.zeros_like(x) + 0.3 + x.new_ones(3) * 0.7,
    "where": lambda x: torch.where(x > 0.1, x, 0.1) + torch.where(x > 0.1, 0.7, x) + x.masked_fill(x > 0.3, 5 / 3),
    "alpha": lambda x: torch.sub(x, x * x, alpha=0.1) + torch.rsub(x, 0.1, alpha=0.3),
    "pad": lambda x: functional.pad(x, (1, 1), value=0.1),
    "addmm": lambda x: torch.addmm(x, x @ x.T, x, alpha=0.1, beta=0.3),
    "layer_norm": lambda x: functional.layer_norm(1e-3 * x, (3,)) + functional.rms_norm(1e-3 * x, (3,)),
    "group_norm": lambda x: functional.group_norm(1e-3 * x[:, None], 1),
    "instance_norm": lambda x: functional.instance_norm(1e-3 * x[:, None], eps=1e-7),
    "attention": lambda x: attention(x[:, None, :, None].expand(-1, 1, 3, 3)),
    "causal": lambda x: attention(x[:, None, :, None], is_causal=True, scale=0.3),
    "logarithms": lambda x: torch.log10(x.abs() + 0.1) + torch.log2(x.abs() + 0.3) + torch.deg2rad(x),
    "ranges": lambda x: x * torch.arange(0.1, 0.39, 0.1, dtype=x.dtype) + torch.linspace(0.1, 0.7, 3, dtype=x.dtype),
    "remainder": lambda x: torch.remainder(x, 0.3) + torch.fmod(x, 0.7),
    "huber": lambda x: functional.huber_loss(x, x * x, reduction="none", delta=0.3),
    "smooth": lambda x: functional.smooth_l1_loss(x, x * x, reduction="none", beta=0.3),
    "tensor": lambda x: x * torch.tensor(0.1, dtype=x.dtype) + x * torch.tensor(0.1, dtype=torch.float32),
    "condition": lambda x: torch.cond(x.sum() > 0, lambda z: z * 0.1 + 5 / 3, lambda z: z - 0.3, (x,)),
}  # fmt: skip


class Called(nn.Module):
    """Every call by its name; one of them is the iteration, for there has to be one."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = nn.BatchNorm1d(3)
        self.channels.running_var = torch.full((3,), 1e-4)

    def forward(self, x: Tensor) -> Mapping[str, Tensor]:
        x = iterate(x * 0.9)
        return {**{name: call(x) for name, call in CALLS.items()}, "batch_norm": self.channels(x)}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each call what the file computes in float64, and what torch does."""
    path = tmp_path_factory.mktemp("digits") / "a.onnx"
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    module = Called().double().eval()
    export_onnx(module, x, path, check=False)
    found = load(path)({"x": x.numpy()})
    with torch.no_grad():
        return {name: (found[name], value.numpy()) for name, value in module(x).items()}


@pytest.mark.parametrize("name", [*CALLS, "batch_norm"])
def test_numbers_in_float64(results: dict[str, tuple[np.ndarray, np.ndarray]], name: str) -> None:
    found, wanted = results[name]
    assert relative_error(found, wanted, batched=True) < 1e-14


def test_a_solver_with_numbers_in_its_code(tmp_path: Path) -> None:
    """Its bias corrections and rates are Python numbers."""
    entry = SOLVERS["learned_adam"]
    solver = entry.make(3, torch.Generator().manual_seed(0)).double().unrolled("layers")
    inputs = tuple(t.double() for t in entry.example(torch.Generator().manual_seed(1), 3))
    report = export_onnx(solver, inputs, tmp_path / "a.onnx")
    assert report.error is not None and report.error < 1e-13
    assert len(set(report.nodes[f"iteration.{k}"] for k in range(3))) == 1


def test_a_float32_model_has_no_float64(tmp_path: Path) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return iterate(functional.layer_norm(functional.leaky_relu(0.1 * x, 0.3), (3,)) + 5 / 3)  # type: ignore[no-any-return]

    export_onnx(Net(), torch.randn(2, 3), tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    assert {"LeakyRelu", "LayerNormalization"} <= {node.op_type for node in model.graph.node}
    assert TensorProto.DOUBLE not in {tensor.data_type for tensor in model.graph.initializer}


def note(node: onnx.NodeProto, text: str) -> onnx.NodeProto:
    node.metadata_props.add(key="pkg.torch.onnx.fx_node", value=text)
    return node


def test_numbers_of_a_call() -> None:
    text = (
        "%mul_28 : [num_users=1] = call_function[target=torch.ops.aten.softplus.default]"
        "(args = (%x_3, [-1.5e-08, 2], 9223372036854775807), kwargs = {dtype: torch.float64, value: 0.1})"
    )
    assert arguments(note(helper.make_node("Cast", ["a"], ["b"]), text))[:4] == (-1.5e-08, 2.0, 2.0**63, 0.1)
    text = "%a : [num_users=1] = call_function[target=torch.ops.aten.leaky_relu.default](args = (%x,), kwargs = {})"
    assert arguments(note(helper.make_node("Cast", ["a"], ["b"]), text)) == (0.01,)
    assert arguments(helper.make_node("Cast", ["a"], ["b"])) == ()


@pytest.mark.parametrize(("call", "kept"), [("0.1", 0.1), ("0.2", float(np.float32(0.1)))], ids=["own", "unknown"])
def test_only_a_number_of_the_same_call_is_taken(call: str, kept: float) -> None:
    """Both conversions read one constant; each is judged by its own call."""
    text = "%a : [num_users=1] = call_function[target=torch.ops.aten.full.default](args = ([3], {}), kwargs = {{}})"
    constant = helper.make_node("Constant", [], ["c"], value_float=0.1)
    cast = note(helper.make_node("Cast", ["c"], ["x"], to=TensorProto.DOUBLE), text.format(call))
    other = note(helper.make_node("Cast", ["c"], ["z"], to=TensorProto.FLOAT), text.format("0.1"))
    outputs = [
        helper.make_tensor_value_info(n, t, []) for n, t in (("x", TensorProto.DOUBLE), ("z", TensorProto.FLOAT))
    ]
    model = helper.make_model(helper.make_graph([constant, cast, other], "g", [], outputs))
    keep_digits(model)
    nodes = {node.output[0]: node for node in model.graph.node}
    source = nodes[nodes["x"].input[0]].attribute[0]
    assert (float(numpy_helper.to_array(source.t)) if source.name == "value" else source.f) == kept
    assert nodes["z"].input[0] == "c"
