"""Splitting an ONNX model into begin, iterate and end: its parts compute what it does, after every iteration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, helper, numpy_helper
from opaque_models import MODELS, answers, problems

from unfoldc.errors import InputError, ModelError
from unfoldc.kernels.pipeline import compile_onnx
from unfoldc.kernels.program import Origin
from unfoldc.kernels.split_onnx.artifact import Tools, compile_split, split_file
from unfoldc.kernels.split_onnx.inspect import describe_split
from unfoldc.kernels.split_onnx.opaque_nodes import is_random, onnx_node, opaque_node
from unfoldc.kernels.split_onnx.read import read_opaque
from unfoldc.kernels.split_onnx.split import Split, split, unrolled, whole
from unfoldc.kernels.split_onnx.value_types import ValueType, evaluated, inferred_types, merged
from unfoldc.kernels.target_spec import TargetSpec

K = 4
HOST = TargetSpec("host", 64, vector_bits=512, accumulators=16, batch_lanes=8)
# What ONNX's own inference knows; contributed operators need a runtime's.
STANDARD = sorted(set(MODELS) - {"gelu", "unnamed", "fused"})


def execute(made: Split, inputs: Mapping[str, np.ndarray], iterations: int) -> list[np.ndarray]:
    """The outputs after so many iterations, part by part as the wiring says."""
    wiring = made.wiring
    constants = {name: made.constants[key] for name, key in wiring["constants"].items()}
    values: dict[str, np.ndarray] = dict(zip(wiring["inputs"], inputs.values(), strict=True))

    def run(facts: Mapping[str, Any], own: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        known = values | own
        results = answers(made.models[facts["part"]], {name: known[name] for name in facts["inputs"]})
        names = [o.name for o in made.models[facts["part"]].graph.output]
        assert names == [output for _, output in facts["outputs"]]
        return {target: result for (target, _), result in zip(facts["outputs"], results, strict=True)}

    if wiring["begin"]:
        values |= run(wiring["begin"], {})
    values |= {state: constants[i] if i in constants else values[i] for state, i in wiring["states"].items()}
    k = 0
    for facts in wiring["iterate"]:
        for slice_ in range(facts["count"]):
            if k == iterations:
                break
            made_now = run(facts, {name: np.asarray(constants[name][slice_]) for name in facts["stacked"]})
            values |= made_now | {s: made_now[h] for s, (h, place) in wiring["slots"].items() if place == k}
            k += 1
    for slot, (history, _) in wiring["slots"].items():
        values.setdefault(slot, np.zeros_like(values[history]))
    return list(run(wiring["end"], {}).values())


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_parts_compute_what_the_model_does(workshop: Any, solver: Any) -> None:
    """Every model that the compiler's own tests use, after each number of iterations."""
    _, made, objections = split_file(workshop.saved(solver.name, K), None, None, Tools())
    inputs = solver.problems()
    assert objections == [] and made.program.iterations == K
    steps = range(1, K + 1) if not made.program.early_stop else [K]
    for k in steps:
        model = solver.make(k)
        wanted = list(workshop.run_onnx(model, inputs).values())[: len(made.program.outputs)]
        workshop.close(execute(made, inputs, k), wanted)


def test_alike_iterations_are_one_model(workshop: Any, solver: Any) -> None:
    """Where the compiler rolls every iteration into one body, unless that needs the meaning of its operators."""
    _, made, _ = split_file(workshop.saved(solver.name, K), None, None, Tools())
    if solver.segments == 1 and solver.name not in ("first_differs", "shortcut", "start_without_batch"):
        assert list(made.models) == ["begin", "iterate", "end"]
    for proto in made.models.values():
        onnx.checker.check_model(proto, full_check=True)


@pytest.mark.parametrize("name", STANDARD)
@pytest.mark.parametrize("way", [None, unrolled, whole])
def test_every_way_of_splitting_is_right(name: str, way: Callable[..., Any] | None, tmp_path: Path) -> None:
    model = MODELS[name](K)
    opaque, made, _ = split_file(saved(model, tmp_path), None, None, Tools())
    if way is not None:
        made = split(opaque, way(opaque, evaluated))
        assert made.program.iterations == (1 if way is whole else K)
    inputs = problems(np.float16 if name == "half" else np.float32)
    for found, right in zip(execute(made, inputs, K), answers(model, inputs), strict=True):
        assert found.shape == right.shape
        assert np.linalg.norm(found.astype(float) - right) <= (5e-3 if name == "half" else 1e-5) * np.linalg.norm(right)


def test_size_does_not_depend_on_k(tmp_path: Path) -> None:
    sizes = []
    for count in (4, 32):
        _, made, _ = split_file(saved(MODELS["largest"](count), tmp_path), None, None, Tools())
        sizes.append([len(proto.graph.node) for proto in made.models.values()])
        assert {value.shape for value in made.constants.values()} == {(count,), (1, 3)}
    assert sizes[0] == sizes[1]


def test_constants_of_inner_graphs_are_stacked(tmp_path: Path) -> None:
    _, made, _ = split_file(saved(MODELS["branches"](K), tmp_path), None, None, Tools())
    (facts,) = made.wiring["iterate"]
    found = {n: made.constants[made.wiring["constants"][n]].ravel().tolist() for n in facts["stacked"]}
    expected = [[-0.5 - k for k in range(K)], [0.1 * k for k in range(K)], [0.5 + 0.1 * k for k in range(K)]]
    assert np.allclose(sorted(found.values()), sorted(expected))
    (node,) = (n for n in made.models["iterate"].graph.node if n.op_type == "If")
    assert all(not a.g.initializer for a in node.attribute)


def test_invariants_are_computed_once(tmp_path: Path) -> None:
    """What each iteration would compute again stands in begin, and what depends on constants alone in neither."""
    model = MODELS["determinant"](K)
    for k in range(K):
        first = next(i for i, n in enumerate(model.graph.node) if n.name.startswith(f"iteration.{k}/Tanh"))
        model.graph.node[first].op_type = "Div"
        model.graph.node[first].input.append(f"s{k}")
        model.graph.node.insert(first, helper.make_node("Exp", ["W1"], [f"e{k}"], name=f"iteration.{k}/Exp"))
        model.graph.node.insert(
            first + 1, helper.make_node("MatMul", ["y", f"e{k}"], [f"s{k}"], name=f"iteration.{k}/M")
        )
    _, made, _ = split_file(saved(model, tmp_path), None, None, Tools())
    operators = {part: [n.op_type for n in proto.graph.node] for part, proto in made.models.items()}
    assert operators["begin"] == ["MatMul", "MatMul"]
    assert "Exp" not in operators["iterate"] and operators["iterate"].count("MatMul") == 1
    inputs = problems()
    right = answers(model, inputs)[0]
    assert np.linalg.norm(execute(made, inputs, K)[0] - right) <= 1e-5 * np.linalg.norm(right)


def test_random_numbers_are_drawn_again_each_time(tmp_path: Path) -> None:
    model = MODELS["determinant"](K)
    for k in range(K):
        node = next(n for n in model.graph.node if n.name.startswith(f"iteration.{k}/Tanh"))
        node.op_type = "Add"
        node.input.append(f"noise{k}")
        place = list(model.graph.node).index(node)
        noise = helper.make_node("RandomNormal", [], [f"noise{k}"], name=f"iteration.{k}/noise", shape=[6])
        model.graph.node.insert(place, noise)
    opaque, made, _ = split_file(saved(model, tmp_path), None, None, Tools())
    assert "RandomNormal" in [n.op_type for n in made.models["iterate"].graph.node]
    for name in ("one", "two"):  # equal nodes in begin are two draws all the same
        model.graph.node.insert(0, helper.make_node("RandomNormal", [], [name], name=f"begin {name}", shape=[6]))
    model.graph.node.append(helper.make_node("Sub", ["one", "two"], ["difference"]))
    model.graph.output.append(helper.make_empty_tensor_value_info("difference"))
    _, made, _ = split_file(saved(model, tmp_path), None, None, Tools())
    drawn = [proto.graph.node for part, proto in made.models.items() if part != "iterate"]
    assert sum(n.op_type == "RandomNormal" for nodes in drawn for n in nodes) == 2
    assert {f"noise{k}" for k in range(K)} <= opaque.random
    assert is_random(
        helper.make_node("F", ["x"], ["y"], domain="own"),
        [helper.make_function("own", "F", ["x"], ["y"], [helper.make_node("Bernoulli", ["x"], ["y"])], [])],
    )


def test_work_between_iterations_that_only_inner_graphs_read(tmp_path: Path) -> None:
    model = MODELS["branches"](K)
    nodes = model.graph.node
    for k in range(1, K):
        place, node = next((i, n) for i, n in enumerate(nodes) if n.op_type == "If" and f"iteration.{k}/" in n.name)
        products = [n for a in node.attribute for n in a.g.node if n.op_type == "Mul"]
        (source,) = {n.input[0] for n in products}
        for n in products:
            n.input[0] = f"between.{k}"
        nodes.insert(place, helper.make_node("Neg", [source], [f"between.{k}"], name=f"Neg_{k}"))
    _, made, objections = split_file(saved(model, tmp_path), None, None, Tools())
    assert objections == [] and made.program.iterations == K
    assert [n.op_type for n in made.models["end"].graph.node].count("Neg") == 0
    inputs = problems()
    right = answers(model, inputs)[0]
    assert np.linalg.norm(execute(made, inputs, K)[0] - right) <= 1e-6 * np.linalg.norm(right)


def test_no_early_stop_where_the_end_may_hold_a_part_of_the_last_iteration(tmp_path: Path) -> None:
    """The same model with and without names: what follows the last iteration looks like a part of one."""
    found = []
    for named in (True, False):
        model = MODELS["determinant"](6)
        result = model.graph.output[0].name
        for node in model.graph.node:
            node.name = node.name if named else ""
        model.graph.node.append(helper.make_node("Tanh", [result], ["answer"]))
        model.graph.output[0].name = "answer"
        _, made, _ = split_file(saved(model, tmp_path), None, None, Tools())
        assert made.program.iterations == 6
        found.append(made.program.early_stop)
    assert found[0] == "" and "may belong to the last of them" in found[1]


def test_equal_nodes_with_several_results_stay_apart(tmp_path: Path) -> None:
    """One reads the first result, the other the second: neither may stand for the other by its first result alone."""
    model = MODELS["determinant"](K)
    model.graph.initializer.append(numpy_helper.from_array(np.array([2]), "two"))
    for name in ("p", "q"):
        node = helper.make_node("TopK", ["y", "two"], [f"{name}.values", f"{name}.places"], name=f"TopK_{name}")
        model.graph.node.insert(0, node)
    model.graph.node.append(helper.make_node("Cast", ["q.places"], ["places"], to=1))
    model.graph.node.append(helper.make_node("Mul", ["p.values", "places"], ["product"]))
    model.graph.output.append(helper.make_empty_tensor_value_info("product"))
    _, made, objections = split_file(saved(model, tmp_path), None, None, Tools())
    inputs = problems()
    assert objections == []
    for found, right in zip(execute(made, inputs, K), answers(model, inputs), strict=True):
        assert np.linalg.norm(found - right) <= 1e-6 * np.linalg.norm(right)


def test_a_node_comes_back_as_it_was() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Add", ["p", "outside"], ["q"]),
            helper.make_node("Mul", ["q", "kept"], ["outside2"]),
            helper.make_node("Mul", ["outside2", "p"], ["r"]),
        ],
        "body",
        [helper.make_empty_tensor_value_info("p")],
        [helper.make_empty_tensor_value_info("r"), helper.make_empty_tensor_value_info("kept")],
        [numpy_helper.from_array(np.array(2, np.float32), "kept")],
    )
    proto = helper.make_node("Own", ["a", "", "b", ""], ["x", "", "z"], domain="own", body=body, alpha=1.5)
    node = opaque_node(proto, lambda n: n.upper(), lambda tensor: "lifted", Origin("n", "Own", 3))
    assert node.operator == "own.Own" and node.inputs == ("A", "", "B", "OUTSIDE") and node.outputs == ("x", "z")
    back = onnx_node(node, lambda n: n.lower() + "!")
    assert list(back.input) == ["a!", "", "b!"] and list(back.output) == ["x!", "", "z!"]
    (graph,) = (a.g for a in back.attribute if a.type == AttributeProto.GRAPH)
    assert list(graph.node[0].input) == ["inner 0", "outside!"]
    assert [o.name for o in graph.output] == ["inner 4", "inner 1"]
    assert [t.name for t in graph.initializer] == ["inner 1"]  # a result of the graph must be made in it


def test_what_is_true_of_several_types() -> None:
    both = merged([ValueType("float32", (1, "batch", 6)), ValueType("float32", (2, "batch", 6))])
    assert both.dims == (None, "batch", 6) and both.for_batch("batch", 3) is None
    assert merged([ValueType("float32", (1,)), ValueType("float32", None)]).dims is None
    seen = ValueType("float32", (None, "batch"), (4, "batch"))
    assert seen.for_batch("batch", 3) == (4, 3) and seen.dims == (None, "batch")


def test_kinds_of_shapes_that_onnx_infers(tmp_path: Path) -> None:
    types = inferred_types(MODELS["determinant"](2))
    assert types["y"] == ValueType("float32", ("batch", 4)) and types["W1"].dims == (4, 6)


# -- artifacts and refusals ----------------------------------------------------------------------------------------


def test_the_artifact_holds_models_and_wiring(workshop: Any, tmp_path: Path) -> None:
    path = workshop.saved("ista_untied", K)
    artifact = compile_onnx(path, HOST, "onnxruntime", symbol="net")
    assert set(artifact.models) == {"net_begin.onnx", "net_iterate.onnx", "net_end.onnx"}
    assert list(artifact.sources) == ["net_split.json"]
    assert [p.name for p in artifact.inputs] == ["y"] and artifact.inputs[0].batched
    assert artifact.outputs[0].shape == (6,) and artifact.outputs[0].batched
    assert artifact.cost is None and artifact.memory.scratch_bytes is None and artifact.memory.state_bytes == 2 * 6 * 4
    assert artifact.notes["constant_bytes_per_iteration"] == 4 * (4 * 6 + 6 * 6 + 1) - 4 * 4 * 6 * 0
    again = compile_onnx(path, HOST, "onnxruntime", symbol="net")
    assert dict(again.models) == dict(artifact.models) and dict(again.sources) == dict(artifact.sources)


def test_dimensions_and_batch(workshop: Any, tmp_path: Path) -> None:
    model = workshop.make("ista_tied", K)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "width"
    path = saved(model, tmp_path)
    with pytest.raises(ModelError, match="axis 1 has the dynamic length 'width' that nobody bound"):
        compile_split(path, HOST)
    artifact = compile_split(path, HOST, dimensions={"width": 4}, batch=2)
    assert artifact.inputs[0].shape == (4,) and artifact.batch == 2


def test_models_that_no_runtime_should_run(tmp_path: Path) -> None:
    def refused(change: Callable[[onnx.ModelProto], object], message: str) -> None:
        model = MODELS["determinant"](K)
        change(model)
        with pytest.raises(ModelError, match=message):
            split_file(saved(model, tmp_path), None, None, Tools())

    def dropout(model: onnx.ModelProto) -> None:
        last = model.graph.node[-1]
        last.output[0], result = "undropped", last.output[0]
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "training"))
        model.graph.node.append(helper.make_node("Dropout", ["undropped", "", "training"], [result]))

    def nan(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].raw_data = np.full(24, np.nan, np.float32).tobytes()

    def untyped(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.Clear()

    def twice(model: onnx.ModelProto) -> None:
        model.graph.output.append(model.graph.output[0])

    refused(dropout, "drops values at random")
    refused(nan, "24 of 24 weights are NaN")
    refused(untyped, "no shape or no type")
    refused(twice, "two outputs have one name")


def test_a_dropout_that_does_nothing_goes(workshop: Any, tmp_path: Path) -> None:
    model = MODELS["determinant"](K)
    last = model.graph.node[-1]
    last.output[0], result = "undropped", last.output[0]
    model.graph.node.append(helper.make_node("Dropout", ["undropped"], [result]))
    opaque = read_opaque(saved(model, tmp_path), {}, inferred_types)
    assert all(n.origin.operator != "Dropout" for n in opaque.program.nodes())


def test_an_unknown_back_end_is_refused(workshop: Any) -> None:
    with pytest.raises(InputError, match="onnxruntime"):
        compile_onnx(workshop.saved("ista_tied", K), HOST, "opencl")


def test_parts_that_a_tool_rejects_are_made_another_way(workshop: Any) -> None:
    path = workshop.saved("ista_tied", K)

    def picky(_: Path, model: Any, made: Split) -> str:
        return "too clever" if "iterate" in made.models and made.program.iterations == K else ""

    _, made, objections = split_file(path, None, None, Tools(check=picky))
    assert objections == ["rolled: too clever"] and len(made.wiring["iterate"]) == K
    with pytest.raises(ModelError, match=r"cannot be split \(whole: never\)"):
        split_file(path, None, None, Tools(check=lambda path, model, made: "never"))


def test_the_description(tmp_path: Path) -> None:
    found = describe_split(saved(MODELS["branches"](K), tmp_path))
    assert found.rolled and found.iterations == K and found.segments[0].per_iteration_constants == 3
    text = str(found)
    assert "4 iterations, found by the names written by export_onnx" in text
    assert "rolled into one iteration" in text and "early stop: after any iteration" in text
    assert '"rolled": true' in found.to_json()
