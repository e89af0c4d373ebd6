"""Vectors on the Cortex-M55: every comparison and choice with NaN and infinity in each place, beside the reference."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tools_at_hand import needs_tool

import unfoldc
from unfoldc.kernels.artifact import Artifact
from unfoldc.kernels.pipeline import build_artifact, optimise
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.program import Program
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.targets import find_target
from unfoldc.targets.qemu import find_machine
from unfoldc.targets.qemu_build import build_qemu
from unfoldc.targets.qemu_run import QemuDevice

N = 20
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 2e38, -3.0], np.float32)
COMPARED = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")
PLAIN = ("Relu", "Sign", "Abs", "LeakyRelu", "Softplus", "Exp", "Sigmoid", "Tanh", "HardSigmoid", "ThresholdedRelu")
SIDES = (("x", "zero"), ("half", "x"), ("x", "x"), ("x", "y"), ("zero", "x"), ("x", "half"), ("x", "row"))


def model(everything: bool = False) -> onnx.ModelProto:
    """One output for each form; the other side is an input, a constant for each element, zero or one number."""
    plain, sides = (PLAIN, SIDES) if everything else (PLAIN[:2], SIDES[:2])
    number = {"zero": 0.0, "half": 0.5}
    constants = [helper.make_tensor(n, TensorProto.FLOAT, [], [v]) for n, v in number.items()]
    row = np.resize(SPECIAL[:0:-1], N).tolist()
    constants.append(helper.make_tensor("row", TensorProto.FLOAT, [N], row))
    nodes = [helper.make_node(op, ["x"], [f"o_{op}"]) for op in plain]
    nodes += [helper.make_node(op, ["x", "y"], [f"o_{op}"]) for op in ("Max", "Min")]
    nodes.append(helper.make_node("Clip", ["x", "zero", "half"], ["o_Clip"]))
    for op in COMPARED:
        for a, b in sides:
            name = f"{op}_{a}_{b}"
            nodes += [
                helper.make_node(op, [a, b], [f"c_{name}"]),
                helper.make_node("Not", [f"c_{name}"], [f"n_{name}"]),
            ]
            nodes.append(helper.make_node("Where", [f"c_{name}", "y", "x"], [f"o_{name}"]))
            nodes.append(helper.make_node("Where", [f"n_{name}", "half", "y"], [f"o_not_{name}"]))
    outputs = [n.output[0] for n in nodes if n.output[0].startswith("o_")]

    def ports(names: list[str]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, [N]) for n in names]

    graph = helper.make_graph(nodes, "comparisons", ports(["x", "y"]), ports(outputs), constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def compiled(folder: Path, target: str = "cortex-m55", everything: bool = False) -> tuple[Artifact, Program]:
    path = folder / "comparisons.onnx"
    onnx.save(model(everything), path)
    imported = import_onnx(path)
    program = optimise(imported.program)
    return build_artifact(imported, program, find_target(target).spec, "c", "solver", target == "host"), program


@needs_tool("qemu-system-arm")
@pytest.mark.parametrize(
    "everything", [pytest.param(False, id="sample"), pytest.param(True, id="all", marks=pytest.mark.slow)]
)
def test_every_comparison_keeps_nan_and_infinity(everything: bool, tmp_path: Path) -> None:
    artifact, program = compiled(tmp_path, everything=everything)
    target = find_target("cortex-m55")
    machine = find_machine(target)
    device = QemuDevice(artifact, target, machine, build_qemu(artifact, target, machine, tmp_path))
    x = np.resize(SPECIAL, N)
    rng = np.random.default_rng(0)
    for _ in range(10):
        y = rng.permutation(x)
        with np.errstate(all="ignore"):
            wanted = evaluate(program, {"x": x, "y": y}, dtype="float64")
        found = device.solve([x, y], artifact.iterations)
        for port, a, b in zip(artifact.outputs, found, wanted, strict=True):
            with np.errstate(over="ignore"):
                right = np.asarray(b).astype(np.float32)
            np.testing.assert_allclose(a, right, rtol=1e-5, atol=1e-6, err_msg=port.name)
        x = rng.permutation(x)


@needs_tool("qemu-system-arm")
@pytest.mark.slow  # TVM takes long to import
def test_tvm_keeps_nan_without_vectors(tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    path = tmp_path / "comparisons.onnx"
    onnx.save(model(), path)
    solver, right = (unfoldc.compile(path, "cortex-m55", backend=b) for b in ("tvm", "c"))
    x = np.resize(SPECIAL, N)
    found, wanted = (s.run({"x": x, "y": x[::-1].copy()}).outputs for s in (solver, right))
    for name, expected in wanted.items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


def test_they_are_vectors_with_a_side_that_the_compiler_does_not_know(tmp_path: Path) -> None:
    artifact, _ = compiled(tmp_path)
    text = artifact.sources["solver.c"]
    body = text[text.index("void solver_begin") :]
    assert body.count("solver_x4_compared_float32_v(") > 2 * len(COMPARED)
    vectors = re.findall(r"solver_x4_select_float32_v\(([^,]*?) (?:<|>|<=|>=|==) ([^,]*),", body)
    assert vectors and all("compared" in right for _, right in vectors)
    assert "-fno-vectorize" in find_target("cortex-m55").flags


@pytest.mark.parametrize("target", ["cortex-m4", "host"])
def test_other_code_is_as_it_was(target: str, tmp_path: Path) -> None:
    text = compiled(tmp_path, target)[0].sources["solver.c"]
    assert "select" in text or "?" in text
    assert "compared" not in text and "MVE" not in text


def test_vectors_call_no_library_either(tmp_path: Path) -> None:
    """A power of each element is a function of the solver's own, as for one number on bare metal."""
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [N]) for n in ("x", "y", "z")]
    graph = helper.make_graph([helper.make_node("Pow", ["x", "y"], ["z"])], "power", ports[:2], ports[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "power.onnx")
    imported = import_onnx(tmp_path / "power.onnx")
    spec = find_target("cortex-m55").spec
    text = build_artifact(imported, optimise(imported.program), spec, "c", "solver", host=False).sources["solver.c"]
    assert "_v(" in text and "powf" in text
    assert not re.search(r"^float powf\(", text, re.M)
