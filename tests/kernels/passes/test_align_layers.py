from __future__ import annotations

from dataclasses import replace

import numpy as np

from unfoldc.kernels.passes.align_layers import align, align_shortened, dropped, same_attributes
from unfoldc.kernels.program import Node, Origin, TensorType

VECTOR = TensorType("float32", (3,))


def layer(mark: str, *rows: str) -> tuple[Node, ...]:
    """Nodes from rows `result = Operator a b`; names with a star belong to the layer and get its mark."""
    nodes = []
    for row in rows:
        result, _, operator, *inputs = row.replace("*", mark).split()
        nodes.append(Node(operator, tuple(inputs), (result,), {}, Origin(f"{operator}.{result}", operator, 0)))
    return tuple(nodes)


def types(*layers: tuple[Node, ...]) -> dict[str, TensorType]:
    return {o: VECTOR for nodes in layers for n in nodes for o in n.outputs}


STEP = ("a* = MatMul x{0} w", "b* = Add a* y", "c* = Tanh b*")


def test_twins() -> None:
    first, second = layer("0", *STEP), layer("1", *STEP)
    found = align(first, second, types(first, second))
    assert not found.reason and not found.missing
    assert found.values == {"a0": "a1", "b0": "b1", "c0": "c1"}
    assert found.inputs[(0, 0)] == "x{0}" and found.inputs[(1, 0)] == "a1"


def test_reasons() -> None:
    first = layer("0", *STEP)
    product, other = "a* = MatMul x{0} w", "Add.b1 (Add) reads other values than Add.b0 (Add) does"
    for rows, text in (
        (STEP[:2], "Tanh.c0 (Tanh) of iteration 0 has no counterpart in the other iteration"),
        ((*STEP, "d* = Tanh c*"), "Tanh.d1 (Tanh) has no counterpart in the other iteration"),
        ((product, "b* = Sub a* y", "c* = Tanh b*"), "Sub.b1 (Sub) stands where iteration 0 has Add.b0 (Add)"),
        ((product, "b* = Add y a*", "c* = Tanh b*"), other),
        ((product, "b* = Add a* a*", "c* = Tanh b*"), other),
    ):
        second = layer("1", *rows)
        assert align(first, second, types(first, second)).reason == text
    second = layer("1", *STEP)
    wide = types(first, second) | {"b1": TensorType("float32", (4,))}
    assert align(first, second, wide).reason == "Add.b1 (Add) makes float32[4], Add.b0 (Add) float32[3]"


def test_dead_nodes_may_lack_anywhere() -> None:
    """What the last layer lacks need not stand at the end, nor be one result only."""
    first = layer("0", "p* = Mul x m", "q* = Mul z n", "r* = Add p* q*", "s* = Mul r* o", "t* = Tanh r*")
    last = layer("1", "q* = Mul z n", "u* = Mul x m", "r* = Add u* q*", "t* = Tanh r*")
    found = align_shortened(first, last, types(first, last))
    assert not found.reason and found.missing == {3}
    assert found.values == {"p0": "u1", "q0": "q1", "r0": "r1", "t0": "t1"}


def test_a_shortened_layer_may_end_inside() -> None:
    first = layer("0", *STEP)
    last = layer("1", *STEP[:2])
    assert align_shortened(first, last, types(first, last)).missing == {2}


def test_two_nodes_do_not_share_a_twin() -> None:
    first = layer("0", "a* = Mul x m", "c* = Tanh a*")
    last = layer("1", "a* = Mul x m", "b* = Mul x n", "c* = Tanh a*", "d* = Tanh b*")
    assert align_shortened(first, last, types(first, last)).reason


def test_a_left_out_input_is_no_value() -> None:
    first, last = layer("0", "a* = Clip x low", "b* = Tanh a*"), layer("1", "a* = Clip x low")
    assert not align_shortened(first, last, types(first, last)).reason
    bare = (replace(last[0], inputs=("x", "")),)
    assert align_shortened(first, bare, types(first, bare)).reason
    assert align(last, bare, types(last, bare)).reason


def test_an_empty_layer_is_like_no_other() -> None:
    first = layer("0", *STEP)
    assert align_shortened(first, (), types(first)).reason
    assert not align_shortened((), (), {}).reason


def test_search_gives_up() -> None:
    """Many equal results: the number of guesses is bounded, and the layers then count as different."""
    first = layer("0", *(f"a{i}* = Tanh x" for i in range(30)))
    last = layer("1", *(f"a{i}* = Tanh x" for i in range(12)), "b* = Neg x")
    assert align_shortened(first, last, types(first, last)).reason


def test_dropped_results() -> None:
    nodes = layer("0", "a* = Tanh x", "b* = Tanh a*", "c* = Neg a*")
    assert list(dropped(nodes, {"b0", "c0"})) == [[0, 2], [0, 1]]
    assert list(dropped(nodes, {"b0"})) == []


def test_attributes_compare_by_value() -> None:
    assert same_attributes({"a": np.ones(2), "b": [1, 2]}, {"a": np.ones(2), "b": (1, 2)})
    assert not same_attributes({"a": np.ones(2)}, {"a": np.zeros(2)})
    assert not same_attributes({"a": 1}, {"b": 1})
