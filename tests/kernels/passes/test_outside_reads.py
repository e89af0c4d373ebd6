from __future__ import annotations

import numpy as np
import pytest

from unfoldc.kernels.passes.outside_reads import CutError, OutsideReads
from unfoldc.kernels.program import Program, TensorType

VECTOR = TensorType("float32", (2,))


def reads(*sequences: tuple[str, ...], layers: int = 4) -> OutsideReads:
    """Layers 0, 1, ... make x1, x2, ... and u1, u2, ...; before them are a, b, c and the constants c0, c1, ..."""
    constants = {f"c{k}": np.full(2, k, np.float32) for k in range(layers)} | {"wide": np.zeros(3, np.float32)}
    values = [f"{v}{k}" for v in "xu" for k in range(layers + 1)]
    types = dict.fromkeys([*values, "a", "b", "c", *constants], VECTOR)
    types |= {"wide": TensorType("float32", (3,)), "number": TensorType("float32", ())}
    program = Program((), (), types, constants, (), (), ())
    return OutsideReads(
        program, constants, 7, [{f"x{k + 1}": "x1", f"u{k + 1}": "u1"} for k in range(layers)], sequences
    )


def test_the_same_each_time() -> None:
    assert reads().name(("a", "a", "a", "a")) == "a"
    assert reads().name(("", "", "", "")) == ""


def test_constants_are_stacked() -> None:
    found = reads()
    name = found.name(("c0", "c1", "c2", "c3"))
    assert found.stacked == {("c0", "c1", "c2", "c3"): name}
    assert found.name(("c0", "c1", "c2", "c3")) == name != found.name(("c0", "c1", "c2", "c2"))
    with pytest.raises(CutError, match=r"constant 'wide' is float32\[3\], its counterpart float32\[2\]") as caught:
        found.name(("c0", "c1", "wide", "c3"))
    assert caught.value.position == 2


def test_a_constant_that_the_last_layer_does_without() -> None:
    found = reads()
    found.name(("c0", "c1", "c2"))
    assert list(found.stacked) == [("c0", "c1", "c2", "c2")]


def test_a_state() -> None:
    found = reads()
    name = found.name(("a", "x1", "x2", "x3"))
    assert (found.initial, found.next_value) == ({name: "a"}, {name: "x1"})


def test_a_shorter_sequence_is_the_same_state() -> None:
    whole, part = ("a", "x1", "x2", "x3"), ("a", "x1", "x2")
    found = reads(part, whole)
    assert found.name(part) == found.name(whole)


@pytest.mark.parametrize("order", [1, -1])
def test_a_value_of_two_iterations_ago_waits(order: int) -> None:
    now, before = ("a", "x1", "x2", "x3"), ("b", "a", "x1", "x2")
    found = reads(now, before)
    for sequence in (now, before)[::order]:
        found.name(sequence)
    x, waiting = found.name(now), found.name(before)
    assert found.next_value == {x: "x1", waiting: x}
    assert found.initial == {x: "a", waiting: "b"}


def test_two_layers_show_what_waits_only_beside_its_successor() -> None:
    found = reads(("a", "x1"), ("b", "a"), layers=2)
    assert found.next_value[found.name(("b", "a"))] == found.name(("a", "x1"))
    with pytest.raises(CutError, match="'c', which it reads, is not what"):
        found.name(("b", "c"))


@pytest.mark.parametrize(
    ("sequence", "position"),
    [
        (("a", "x1", "u2", "x3"), 2),
        (("a", "x1", "b", "x3"), 2),
        (("a", "x1", "x2", "x2"), 3),
        (("number", "x1", "x2", "x3"), 1),
    ],
)
def test_neither(sequence: tuple[str, ...], position: int) -> None:
    with pytest.raises(CutError) as caught:
        reads(sequence).name(sequence)
    assert caught.value.position == position


def test_waiting_ends() -> None:
    sequence = tuple("abcabcabc")
    with pytest.raises(CutError):
        reads(sequence, layers=9).name(sequence)
