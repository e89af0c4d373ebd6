from __future__ import annotations

from typing import Any

import onnx

from unfoldc.export.listing import Listing, Op, make_op
from unfoldc.export.matching import carried, embed, fingerprints, match_backward, match_forward


def op(kind: str, reads: str, makes: str, **attributes: int) -> Op:
    numbers: dict[str, Any] = dict(attributes)
    return make_op(onnx.helper.make_node(kind, reads.split(), makes.split(), f"node_{makes}", **numbers))


def step(k: int, x: str, b: str = "b") -> list[Op]:
    """x_{k+1} = relu(x_k W + b)."""
    return [op("MatMul", f"{x} W", f"m{k}"), op("Add", f"m{k} {b}", f"a{k}"), op("Relu", f"a{k}", f"x{k}")]


def listing(ops: list[Op]) -> Listing:
    return Listing(tuple(ops), ("y",), (ops[-1].outputs[0],), {"W": onnx.TensorProto(), "V": onnx.TensorProto()})


def test_fingerprints_depend_on_operators_attributes_and_wiring() -> None:
    first, second, other = fingerprints(step(0, "y"), step(1, "x0"), [op("MatMul", "y W", "m"), op("Relu", "m", "r")])
    assert first == second
    assert first[0] == other[0]
    assert first[2] != other[1]
    (a, b) = fingerprints([op("Softmax", "y", "s", axis=0)], [op("Softmax", "y", "s", axis=1)])
    assert a != b


def test_the_same_body_is_embedded_whole() -> None:
    assert embed(step(1, "x0"), step(0, "y")) == {0: 0, 1: 1, 2: 2}


def test_dead_code_may_be_missing() -> None:
    large = [*step(0, "y"), op("Neg", "x0", "u0"), op("Abs", "u0", "v0")]
    assert embed(step(1, "x0"), large) == {0: 0, 1: 1, 2: 2}
    assert embed(large, step(1, "x0")) is None


def test_of_two_equal_operations_the_one_with_the_right_readers_is_chosen() -> None:
    large = [op("Neg", "y", "dead"), op("Neg", "x", "n"), op("Abs", "dead", "e"), op("Relu", "n", "r")]
    small = [op("Neg", "x1", "n1"), op("Relu", "n1", "r1")]
    assert embed(small, large) == {0: 1, 1: 3}


def test_other_wiring_is_no_match() -> None:
    crossed = [op("Neg", "y", "n"), op("Abs", "y", "a"), op("Sub", "n a", "d")]
    straight = [op("Neg", "y", "n"), op("Abs", "y", "a"), op("Sub", "a n", "d")]
    assert embed(crossed, straight) is None


def test_backward_finds_the_iteration_and_leaves_what_is_in_front_of_it() -> None:
    begin = [op("MatMul", "y V", "b"), op("Neg", "b", "x")]
    whole = listing([*begin, *step(0, "x"), *step(1, "x0")])
    found = match_backward(whole, [("x0", "x1")], {5, 6, 7}, {0, 1, 2, 3, 4}, strict=True)
    assert found == {7: 4, 6: 3, 5: 2}


def test_backward_strict_refuses_another_operator_where_lenient_stops() -> None:
    other = [op("MatMul", "y W", "m0"), op("Sub", "m0 b", "a0"), op("Relu", "a0", "x0")]
    whole = listing([op("MatMul", "y V", "b"), *other, *step(1, "x0")])
    arguments = ([("x0", "x1")], {4, 5, 6}, {0, 1, 2, 3})
    assert match_backward(whole, *arguments, strict=True) is None
    assert match_backward(whole, *arguments, strict=False) == {6: 3}


def test_backward_refuses_a_constant_for_a_value() -> None:
    begin = [op("Neg", "y", "b")]
    first = [op("MatMul", "y W", "m0"), op("Add", "m0 V", "a0"), op("Relu", "a0", "x0")]
    second = [op("Neg", "x0", "n1"), op("MatMul", "x0 W", "m1"), op("Add", "m1 n1", "a1"), op("Relu", "a1", "x1")]
    whole = listing([*begin, *first, *second])
    assert match_backward(whole, [("x0", "x1")], {4, 5, 6, 7}, {0, 1, 2, 3}, strict=True) is None


def test_backward_refuses_a_value_for_a_constant() -> None:
    first = [op("MatMul", "y W", "m0"), op("Add", "m0 b", "x0")]
    second = [op("MatMul", "x0 W", "m1"), op("Add", "m1 V", "x1")]
    whole = listing([op("Neg", "y", "b"), *first, *second])
    assert match_backward(whole, [("x0", "x1")], {3, 4}, {0, 1, 2}, strict=True) is None


def test_backward_refuses_two_start_values_for_one_state() -> None:
    first = [op("Neg", "p", "a0"), op("Abs", "q", "c0"), op("Add", "a0 c0", "x0")]
    second = [op("Neg", "x0", "a1"), op("Abs", "x0", "c1"), op("Add", "a1 c1", "x1")]
    whole = listing([*first, *second])
    assert match_backward(whole, [("x0", "x1")], {3, 4, 5}, {0, 1, 2}, strict=True) is None


def test_forward_finds_the_last_iteration_and_leaves_what_follows() -> None:
    whole = listing([op("MatMul", "y V", "b"), *step(0, "y"), *step(1, "x0"), op("MatMul", "x1 V", "o")])
    assert match_forward(whole, [1, 2, 3], [4, 5, 6, 7], {"y": "x0"}, {}) == {1: 4, 2: 5, 3: 6}


def test_forward_does_not_take_an_operation_with_another_invariant() -> None:
    whole = listing([op("MatMul", "y V", "b"), op("Neg", "b", "c"), *step(0, "y"), *step(1, "x0", b="c")])
    assert match_forward(whole, [2, 3, 4], [5, 6, 7], {"y": "x0"}, {}) == {2: 5}


def test_forward_does_not_take_an_operation_on_another_state() -> None:
    body = [op("Neg", "y", "n0"), op("Abs", "n0", "x0")]
    whole = listing([*body, op("Neg", "n0", "other"), op("Neg", "x0", "n1"), op("Abs", "n1", "x1")])
    assert match_forward(whole, [0, 1], [2, 3, 4], {"y": "x0"}, {}) == {0: 3, 1: 4}


def test_carried_pairs_what_two_iterations_read_in_the_same_place() -> None:
    whole = listing([op("MatMul", "y V", "b"), *step(0, "y"), *step(1, "x0"), *step(2, "x1")])
    assert carried(whole, [4, 5, 6], [7, 8, 9]) == [("x0", "x1")]
