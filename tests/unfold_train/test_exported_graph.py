"""The graph that torch's exporter makes of a frozen network: scopes of the iterations, constants, no leftovers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from unfoldc.unfold_train import Input, SynthesisIsta, SynthesisLista, Unfolded, unfold

ITERATIONS = 3


def export(network: Unfolded, inputs: tuple[Tensor, ...], batched: tuple[bool, ...], path: Path) -> onnx.ModelProto:
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        network,
        inputs,
        dynamo=True,
        optimize=False,
        verbose=False,
        input_names=list(network.inputs),  # the exporter would write H as h
        dynamic_shapes=tuple({0: batch} if b else None for b in batched),
    )
    assert program is not None
    program.save(str(path))
    return onnx.load(path)


def scopes(model: onnx.ModelProto) -> dict[str, Counter[str]]:
    """The operators in each of begin, iteration.k and end."""
    found: dict[str, Counter[str]] = {}
    for node in model.graph.node:
        text = {p.key: p.value for p in node.metadata_props}.get("pkg.torch.onnx.name_scopes", "[]")
        names = [part.strip(" '\"") for part in text.strip("[]").split(",")]
        inside = next((n for n in names if n.startswith(("begin", "iteration", "end"))), "elsewhere")
        found.setdefault(inside, Counter())[node.op_type] += 1
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["factored", "full"])
def test_every_iteration_is_a_scope_and_holds_only_its_own_work(form: str, sparse: Any, tmp_path: Path) -> None:
    kind, learn, tied = {
        "factored": (SynthesisIsta, ["A", "B", "Psi", "mu", "theta"], ["A", "B", "Psi"]),
        "full": (SynthesisLista, ["W1", "W2", "theta"], ["W1", "W2"]),
    }[form]
    arrays = {"H": sparse.H.float(), "Psi": sparse.Psi.float(), "rows": sparse.rows}
    network = unfold(kind(**arrays, rho=sparse.rho), iterations=ITERATIONS, learn=learn, tied=tied)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01)
    model = export(network.frozen(), (sparse.y[:2].float(),), (True,), tmp_path / "network.onnx")

    work = scopes(model)
    iterations = [work[f"iteration.{k}"] for k in range(ITERATIONS)]
    assert iterations[0] == iterations[1] == iterations[2]
    products = {"factored": 2, "full": 2}[form]
    assert iterations[0]["MatMul"] == products
    assert work["end"]["MatMul"] == 1
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"Exp", "Log", "Gather", "Reciprocal", "Pow"}
    shapes = sorted(tuple(t.dims) for t in model.graph.initializer if len(t.dims) == 2)
    assert shapes == {"factored": [(4, 14), (6, 14), (6, 14)], "full": [(4, 14), (14, 6), (14, 14)]}[form]
    [y] = model.graph.input
    assert y.name == "y" and y.type.tensor_type.shape.dim[0].dim_param == "batch"

    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    problems = sparse.y.float()
    [found] = session.run(None, {"y": problems.numpy()})
    np.testing.assert_allclose(found, network(problems).detach(), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("each", [False, True])
def test_a_model_given_with_each_call_exports(each: bool, sparse: Any, tmp_path: Path) -> None:
    H = sparse.H.float()
    solver = SynthesisIsta(H=Input(), Psi=sparse.Psi.float(), rho=sparse.rho)
    network = unfold(solver, iterations=ITERATIONS, learn=["mu", "theta"], example={"H": H})
    y = sparse.y.float()
    shapes = H.expand(len(y), *H.shape).contiguous() if each else H
    model = export(network.frozen(), (y[:2], shapes[:2] if each else H), (True, each), tmp_path / "network.onnx")
    assert [i.name for i in model.graph.input] == ["y", "H"]
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"y": y.numpy(), "H": shapes.numpy()})
    np.testing.assert_allclose(found, network(y, H).detach(), atol=1e-5)
