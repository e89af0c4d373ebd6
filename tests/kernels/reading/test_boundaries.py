from __future__ import annotations

import pytest
from onnx import NodeProto, helper

from unfoldc.kernels.reading.boundaries import find_boundaries

SCOPES = "pkg.torch.onnx.name_scopes"


def node(result: str, *inputs: str, name: str = "", scopes: object = None, operator: str = "Add") -> NodeProto:
    made = helper.make_node(operator, inputs, [result], name=name)
    if scopes is not None:
        entry = made.metadata_props.add()
        entry.key, entry.value = SCOPES, str(scopes)
    return made


def labels(*nodes: NodeProto) -> list[int | None]:
    return list(find_boundaries(nodes).labels)


def test_own_names() -> None:
    nodes = [
        node("b", "y", name="begin/a"),
        node("x1", "b", name="iteration.0/a"),
        node("x2", "x1", name="iteration.1/a"),
        node("z", "x2", name="end/a"),
    ]
    found = find_boundaries(nodes)
    assert list(found.labels) == [None, 0, 1, None]
    assert found.source == "the names written by export_onnx"


def test_names_that_only_look_like_ours() -> None:
    names = ["iteration.x/a", "iteration./a", "my/iteration.0/a", "iteration.1", "iteration.1234567/a", "ITERATION.0/a"]
    assert labels(*(node(f"x{i}", name=name) for i, name in enumerate(names))) == [None] * 6


def test_gaps_are_closed() -> None:
    nodes = [node("a", "y", name="iteration.3/a"), node("b", "a", name="iteration.999999/b")]
    assert labels(*nodes) == [0, 1]


def test_module_lists() -> None:
    scopes = [["", "net", f"net.its.{k}", "add"] for k in range(3)]
    found = find_boundaries([node(f"x{k + 1}", f"x{k}", scopes=s) for k, s in enumerate(scopes)])
    assert list(found.labels) == [0, 1, 2]
    assert found.source == "the module list 'net.its' recorded by the exporter"


def test_the_outermost_list_with_most_nodes() -> None:
    nodes = []
    for k in range(2):
        for i in range(3):
            nodes.append(node(f"x{k}{i}", scopes=["", f"its.{k}", f"its.{k}.blocks.{i}", "add"]))
    nodes.append(node("out", "x12", scopes=["", "heads.0", "add"]))
    nodes.append(node("out2", "x12", scopes=["", "heads.1", "add"]))
    assert labels(*nodes) == [0, 0, 0, 1, 1, 1, None, None]


def test_numbered_names_are_no_list() -> None:
    assert labels(*(node(f"x{k}", scopes=["", f"conv{k}", "add"]) for k in range(3))) == [None] * 3


def test_a_list_that_is_run_again_and_again_holds_no_iterations() -> None:
    nodes = []
    for k in range(2):
        for i in range(3):
            nodes.append(node(f"x{k}{i}", scopes=["", "step", f"step.layers.{i}", "add"]))
    nodes += [node(f"z{k}", f"x1{k}", scopes=["", f"tail.{k}", "add"]) for k in range(2)]
    assert find_boundaries(nodes).source == "the module list 'tail' recorded by the exporter"


def test_a_network_that_a_plain_loop_runs_again_and_again() -> None:
    """Its items are no iterations, even where there is no other list: the repetition of operations tells."""
    scopes = [["", "denoiser", f"denoiser.{i}", "add"] for _ in range(3) for i in (0, 2)]
    found = find_boundaries([node(f"x{j + 1}", f"x{j}", scopes=s) for j, s in enumerate(scopes)])
    assert (set(found.labels), found.source) == ({None}, "")


def test_networks_that_follow_each_other_hold_no_iterations() -> None:
    """Every iteration of a plain loop has a network of its own; one that differs may still be a list of iterations."""
    scopes = [["", f"prior{k}.{i}", "add"] for k in range(3) for i in range(4)]
    nodes = [node(f"x{j + 1}", f"x{j}", scopes=s) for j, s in enumerate(scopes)]
    assert labels(*nodes) == [None] * 12
    other = [node(f"x{j + 13}", f"x{j + 12}", scopes=["", f"its.{j}", "mul"], operator="Mul") for j in range(3)]
    assert labels(*nodes, *other) == [None] * 12 + [0, 1, 2]


def test_lists_that_take_turns() -> None:
    scopes = [["", f"{path}.{k}", "add"] for k in range(3) for path in ("linear", "prox")]
    assert labels(*(node(f"x{j + 1}", f"x{j}", scopes=s) for j, s in enumerate(scopes))) == [0, 0, 1, 1, 2, None]


def test_a_list_whose_items_run_out_of_order_holds_no_iterations() -> None:
    order = [0, 2, 1]
    assert labels(*(node(f"x{j + 1}", f"x{j}", scopes=["", f"its.{i}", "add"]) for j, i in enumerate(order))) == (
        [None] * 3
    )


def test_constants_may_stand_anywhere() -> None:
    nodes = [node(f"c{k}", scopes=["", f"its.{k}", "add"], operator="Constant") for k in (2, 0, 1)]
    nodes += [node(f"x{k + 1}", f"x{k}", f"c{k}", scopes=["", f"its.{k}", "add"]) for k in range(3)]
    assert labels(*nodes)[3:] == [0, 1, 2]


@pytest.mark.parametrize(
    "text", ["", "[", "5", "__import__('os')", "['', 'its.0'", "[" * 10_000, "-" * 9000 + "1", "['a', 3, None]", "{}"]
)
def test_scopes_that_are_none(text: str) -> None:
    made = node("x", "y")
    entry = made.metadata_props.add()
    entry.key, entry.value = SCOPES, text
    assert labels(made, made) == [None, None]


def test_work_between_joins_the_earlier_iteration() -> None:
    nodes = [
        node("b", "y"),
        node("x1", "b", name="iteration.0/a"),
        node("t1", "x1"),
        node("x2", "t1", name="iteration.1/a"),
        node("t2", "x2"),
    ]
    assert labels(*nodes) == [None, 0, 0, 1, None]


def test_a_label_against_the_flow_of_data_is_raised() -> None:
    nodes = [node("x1", "y", name="iteration.1/a"), node("x2", "x1", name="iteration.0/a")]
    assert labels(*nodes) == [1, 1]


def test_shared_constants_hold_nobody_back() -> None:
    """A constant written into the third iteration and read before belongs to none."""
    nodes = [
        node("c", name="iteration.2/c", operator="Constant"),
        node("b", "y", "c"),
        node("x1", "b", name="iteration.0/a"),
        node("x2", "x1", name="iteration.1/a"),
        node("x3", "x2", name="iteration.2/a"),
    ]
    assert labels(*nodes)[1:] == [None, 0, 1, 2]
