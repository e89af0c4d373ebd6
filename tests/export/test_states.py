from __future__ import annotations

import onnx

from unfoldc.export.labels import BEGIN, Labels
from unfoldc.export.listing import Listing, Op, make_op
from unfoldc.export.states import State, find_states, resolved


def build(text: str) -> tuple[Listing, Labels]:
    """Lines `label: Kind inputs -> output`; label b, a number, or e."""
    ops: list[Op] = []
    of: list[int] = []
    lines = [line.split() for line in text.strip().splitlines()]
    count = 1 + max(int(line[0][:-1]) for line in lines if line[0][:-1].isdecimal())
    for label, kind, *rest in lines:
        at = rest.index("->")
        ops.append(make_op(onnx.helper.make_node(kind, rest[:at], rest[at + 1 :], f"n{len(ops)}")))
        of.append({"b:": BEGIN, "e:": count}.get(label, int(label[:-1]) if label[:-1].isdecimal() else 0))
    listing = Listing(tuple(ops), ("y",), (ops[-1].outputs[0],))
    return listing, Labels(count, tuple(of))


def values(listing: Listing, labels: Labels) -> list[tuple[str, ...]]:
    return [state.values for state in find_states(listing, labels)]


def test_one_state_and_an_invariant() -> None:
    listing, labels = build(
        """
        b: Neg y -> b
        0: Add y b -> x0
        1: Add x0 b -> x1
        2: Add x1 b -> x2
        """
    )
    assert values(listing, labels) == [("x0", "x1", "x2")]


def test_a_previous_iterate_is_a_state_of_its_own() -> None:
    listing, labels = build(
        """
        b: Neg y -> z
        0: Sub z z -> d0
        0: Add z d0 -> x0
        1: Sub x0 z -> d1
        1: Add x0 d1 -> x1
        2: Sub x1 x0 -> d2
        2: Add x1 d2 -> x2
        """
    )
    assert values(listing, labels) == [("x0", "x1", "x2"), ("z", "x0", "x1")]


def test_an_update_that_the_last_iteration_lacks_leaves_a_gap() -> None:
    listing, labels = build(
        """
        0: Add y y -> z0
        0: Neg z0 -> u0
        1: Add z0 u0 -> z1
        1: Neg z1 -> u1
        2: Add z1 u1 -> z2
        """
    )
    assert values(listing, labels) == [("z0", "z1", "z2"), ("u0", "u1", "")]


def test_values_of_begin_that_differ_by_iteration_are_no_state() -> None:
    listing, labels = build(
        """
        b: Neg y -> t0
        b: Abs y -> t1
        0: Add y t0 -> x0
        1: Add x0 t1 -> x1
        """
    )
    assert values(listing, labels) == [("x0", "x1")]


def test_what_only_the_end_reads_is_a_state_known_for_every_iteration() -> None:
    listing, labels = build(
        """
        0: Relu y -> a0
        0: Neg a0 -> x0
        1: Relu x0 -> a1
        1: Neg a1 -> x1
        e: Abs a1 -> out
        """
    )
    assert values(listing, labels) == [("a0", "a1"), ("x0", "x1")]


def test_the_end_may_read_the_iterate_before_the_last() -> None:
    listing, labels = build(
        """
        0: Relu y -> x0
        1: Relu x0 -> x1
        2: Relu x1 -> x2
        e: Sub x2 x1 -> out
        """
    )
    assert values(listing, labels) == [("x0", "x1", "x2"), ("", "x0", "x1")]


def test_iterations_unlike_each_other_are_joined_by_type_and_called_guessed() -> None:
    listing, labels = build(
        """
        0: Relu y -> x0
        1: Neg x0 -> x1
        2: Abs x1 -> x2
        """
    )
    states = find_states(listing, labels)
    assert [s.values for s in states] == [("x0", "x1", "x2")]
    assert states[0].guessed


def test_an_iteration_with_less_than_the_others_is_not_laid_over_them() -> None:
    """The first item's sum is its result; that of the second is not."""
    listing, labels = build(
        """
        0: Neg y -> a0
        1: Neg a0 -> a1
        1: Relu a1 -> x1
        2: Neg x1 -> a2
        e: Abs a2 -> out
        """
    )
    assert not any(all(s.values) and not s.guessed for s in find_states(listing, labels))


def test_marked_states_come_first_with_their_names() -> None:
    listing, labels = build(
        """
        0: Add y y -> z0
        0: Neg z0 -> u0
        1: Add z0 u0 -> z1
        1: Neg z1 -> u1
        """
    )
    marked = Labels(labels.count, labels.of, marked=(("u0",), ("u1",)), names=("u",))
    assert find_states(listing, marked) == (State("u", ("u0", "u1")), State("state0", ("z0", "z1")))


def test_an_output_names_the_state_that_it_shows() -> None:
    states = (State("u", ("u0", "u1")), State("state0", ("z0", "z1")), State("state1", ("w0", "w1")))
    named = resolved(states, ["z1", "w1"], ["x", "u"])
    assert [s.name for s in named] == ["u", "x", "state1"]
