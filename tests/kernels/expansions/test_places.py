"""Searching, reading and writing at places: what ONNX leaves open, NaN, places outside, and batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from unfoldc.errors import ModelError
from unfoldc.kernels.expansions.scattering import turned_around
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.roll_iterations import roll_iterations
from unfoldc.kernels.pipeline import load_program
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.verify import verify_loops

NAN = np.nan
MIXED = np.array([[1, NAN, 3, NAN, 3, -np.inf], [np.inf, 0, NAN, -0.0, 2, np.inf], [5, 5, 5, 1, 5, 1]], np.float32)


def answers(workshop: Any, g: Any, outputs: Sequence[str], **inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of the reference, which the loops must give as well."""
    program = roll_iterations(workshop.imported(g.model(*outputs)).program)
    loops = lower(program)
    verify_loops(loops)
    found = run(loops, dict(zip(loops.inputs, (inputs[n] for n in program.inputs), strict=True)))
    wanted = [np.asarray(a) for a in evaluate(program, inputs, dtype=None)]
    for buffer, answer in zip(loops.outputs, wanted, strict=True):
        np.testing.assert_array_equal(found[buffer], answer)
    return wanted


def top_k(g: Any, x: str, k: int, **attributes: Any) -> tuple[str, str]:
    g("TopK", x, g.weight(f"k{k}", [k], "int64"), out="values", **attributes)
    g.nodes[-1].output.append("places")
    return "values", "places"


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("k", [1, 4, 6])
def test_nan_is_the_greatest_number_and_equal_ones_keep_their_order(workshop: Any, k: int, largest: int) -> None:
    g = workshop.Graph()
    values, places = answers(workshop, g, top_k(g, g.input("x", *MIXED.shape), k, largest=largest), x=MIXED)
    x = torch.from_numpy(MIXED)
    wanted = torch.sort(x, descending=bool(largest), stable=True)
    np.testing.assert_array_equal(places, wanted.indices[:, :k].numpy())
    np.testing.assert_array_equal(values, wanted.values[:, :k].numpy())


def test_unsorted_results_are_the_same_set(workshop: Any) -> None:
    g = workshop.Graph()
    values, _ = answers(workshop, g, top_k(g, g.input("x", 1, 6), 3, sorted=0), x=MIXED[2:])
    assert sorted(values[0]) == [5, 5, 5]


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
def test_the_first_nan_is_found(workshop: Any, operator: str) -> None:
    g = workshop.Graph()
    (places,) = answers(workshop, g, [g(operator, g.input("x", *MIXED.shape), axis=1, keepdims=0)], x=MIXED)
    wanted = (torch.argmax if operator == "ArgMax" else torch.argmin)(torch.from_numpy(MIXED), 1)
    assert places.tolist() == wanted.tolist() == [1, 2, places[2]]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("how", ["add", "mul", "min", "max"])
def test_nan_is_not_lost_where_updates_meet(workshop: Any, how: str, known: bool) -> None:
    places = np.array([[0, 2, 2, 0, 2, 2, 2, 0, 3, 3]])
    x, updates = np.array([[1, 2, 3, NAN]], np.float32), np.arange(10, dtype=np.float32)[None] - 4
    updates[0, 4] = NAN
    g = workshop.Graph()
    inputs = {"x": x, "p": places, "u": updates}
    x_name = g.input("x", 1, 4)
    p = g.weight("p", inputs.pop("p"), "int64") if known else g.input("p", 1, 10, dtype="int64")
    (found,) = answers(
        workshop,
        g,
        [g("ScatterElements", x_name, p, g.input("u", 1, 10), axis=1, reduction=how)],
        **inputs,
    )
    wanted = torch.from_numpy(x).scatter_reduce(
        1,
        torch.from_numpy(places),
        torch.from_numpy(updates),
        {"add": "sum", "mul": "prod", "min": "amin", "max": "amax"}[how],
    )
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-6)
    assert np.isnan(found[0, 2:]).all()


@pytest.mark.parametrize("known", [True, False])
def test_of_several_updates_the_last_wins(workshop: Any, known: bool) -> None:
    g = workshop.Graph()
    x = g.input("x", 4)
    places = np.array([[2], [0], [-2], [0]])
    inputs = {"x": np.zeros(4, np.float32), "u": np.arange(1, 5, dtype=np.float32)}
    if not known:
        inputs["p"] = places
    p = g.weight("p", places, "int64") if known else g.input("p", 4, 1, dtype="int64")
    (found,) = answers(workshop, g, [g("ScatterND", x, p, g.input("u", 4))], **inputs)
    assert found.tolist() == [4, 0, 3, 0]


@pytest.mark.parametrize("away", [7, -9, 2**40, -(2**40)])
def test_places_from_data_stay_inside_and_in_their_row(workshop: Any, away: int) -> None:
    g = workshop.Graph()
    x, rows, pair = g.input("x", 2, 3), g.input("rows", 2, 1, dtype="int64"), g.input("pair", 1, 2, dtype="int64")
    made = [
        g("GatherElements", x, rows, axis=1),
        g("GatherND", x, pair),
        g("ScatterElements", x, rows, g.weight("u", [[10], [20]]), axis=1),
        g("ScatterND", x, pair, g.weight("v", [30])),
    ]
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = answers(workshop, g, made, x=data, rows=np.array([[away], [1]]), pair=np.array([[0, away]]))
    end = 2 if away > 0 else 0
    row, other = data.copy(), data.copy()
    row[0, end], row[1, 1], other[0, end] = 10, 20, 30
    for one, wanted in zip(found, ([[end], [4]], [end], row, other), strict=True):
        np.testing.assert_array_equal(one, wanted)


@pytest.mark.parametrize("operator", ["GatherElements", "ScatterElements", "GatherND", "ScatterND"])
def test_a_known_place_outside_is_refused(workshop: Any, operator: str) -> None:
    g = workshop.Graph()
    updates = [g.weight("u", np.zeros((1, 1)) if "El" in operator else [0.0])] if "Scatter" in operator else []
    one_axis = {"axis": 1} if "El" in operator else {}
    p = g.weight("p", [[4]] if one_axis else [[0, 4]], "int64")
    made = g(operator, g.input("x", 2, 4), p, *updates, **one_axis)
    with pytest.raises(ModelError, match="indices from .*4 to 4 on an axis of 4"):
        workshop.imported(g.model(made))


@pytest.mark.parametrize("operator", ["Pick", "Place", "Put", "TopIndices"])
def test_files_may_not_use_operators_of_our_own(workshop: Any, operator: str) -> None:
    g = workshop.Graph()
    x = g.input("x", 3)
    with pytest.raises(ModelError, match=f"the operator {operator} is not known"):
        workshop.imported(g.model(g(operator, x, g.weight("p", [0], "int64"))))


def test_how_many_places_may_not_depend_on_data(workshop: Any) -> None:
    g = workshop.Graph()
    for operator, message in (("NonZero", "must be a constant"), ("Compress", "must be a constant")):
        mask = [g("Greater", g.input(f"m{operator}", 3), g.weight("0", 0.0))] if operator == "Compress" else []
        with pytest.raises(ModelError, match=message):
            workshop.imported(g.model(g(operator, g.input(f"x{operator}", 3), *mask)))


@pytest.mark.parametrize("k", [0, 4])
def test_no_more_than_there_are(workshop: Any, k: int) -> None:
    g = workshop.Graph()
    with pytest.raises(ModelError, match=f"{k} of 3 elements"):
        workshop.imported(g.model(*top_k(g, g.input("x", 2, 3), k)))


def test_problems_of_a_batch_have_places_of_their_own(workshop: Any) -> None:
    """And along the batch itself nothing is read or written elsewhere."""
    for axis, fits in ((1, True), (0, False)):
        g = workshop.Graph()
        x, p = g.input("x", "batch", 4), g.input("p", "batch", 4, dtype="int64")
        read = g("GatherElements", x, p, axis=axis)
        path = workshop.save(g.model(g("ScatterElements", read, p, x, axis=axis, reduction="add")))
        if fits:
            assert all(port.batched for port in load_program(path)[0].inputs)
        else:
            with pytest.raises(ModelError, match="couples the problems of a batch"):
                load_program(path)


def test_a_table_is_turned_around() -> None:
    places = np.array([[2, 0, 2], [1, 1, 1]])
    assert turned_around(places, 1, 3, last=True)[..., 0].tolist() == [[1, -1, 2], [-1, 2, -1]]
    both = turned_around(places.T, 0, 3, last=False)
    assert both.shape == (3, 2, 3)
    assert both[2, 0].tolist() == [0, 2, -1] and both[1, 1].tolist() == [0, 1, 2]


@pytest.mark.parametrize("how", ["none", "add"])
def test_iterations_with_tables_of_their_own_are_alike(workshop: Any, how: str) -> None:
    """Irregular places differ from iteration to iteration as weights do: one body, stacked tables."""
    g = workshop.Graph()
    x = g.input("x", 1, 5)
    for k, places in enumerate(([3, 0, 1], [-1, 2, 0], [1, 4, 3])):
        g.k = k
        p = g.weight(f"p{k}", [places], "int64")
        read = g("Tanh", g("GatherElements", x, p, axis=1))
        x = g("ScatterElements", x, p, read, axis=1, reduction=how)
    program = workshop.imported(g.model(x)).program
    rolled = roll_iterations(program)
    assert [s.count for s in rolled.segments] == [3]
    inputs = {"x": workshop.random("x", 1, 5, scale=1.0).astype(np.float32)}
    (wanted,) = evaluate(program, inputs, dtype=None)
    loops = lower(rolled)
    verify_loops(loops)
    (found,) = run(loops, {loops.inputs[0]: inputs["x"]}).values()
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
