"""The law of the iterates: iterate k is what the same solver with k + 1 iterations answers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from unfoldc.errors import ExportError
from unfoldc.export.iterates import add_iterates
from unfoldc.export.labels import Labels
from unfoldc.export.listing import Listing, make_op
from unfoldc.export.states import State

Export = Callable[..., Any]


def shortened(module: Any, count: int) -> Any:
    module = copy.deepcopy(module)
    if hasattr(module, "layers"):
        module.layers = module.layers[:count]
    else:
        module.count = count
    return module.eval()


@pytest.mark.parametrize(
    "arguments",
    [
        ("Lista", 3, "untied"),
        ("Loop", 3, "end", True, "prox"),
        ("Loop", 3, "start", True, "prox"),
        ("Fista", 3),
        ("Fista", 3, "start"),
        ("Momentum", 3),
        ("Momentum", 3, True),
        ("Admm", 3, "end"),
        ("Admm", 3, "end", True),
        ("Admm", 3, "start", True),
        ("AdmmLayers", 3),
        ("Cooling", 3),
        ("FirstDiffers", 3),
        ("Residual", 3),
        ("Caching", 3),
    ],
    ids=str,
)
def test_iterate_k_is_the_answer_of_the_solver_with_k_plus_one_iterations(
    export: Export, arguments: tuple[Any, ...]
) -> None:
    exported = export(*arguments)
    y = torch.randn(6, 5, generator=torch.Generator().manual_seed(3))
    found = exported.run(y)
    names = exported.metadata["iterates"]["x"]
    assert names == [f"x.iterate.{k}" for k in range(exported.report.iterations)]
    for k, name in enumerate(names):
        with torch.no_grad():
            wanted = shortened(exported.module, k + 1)(y).numpy()
        np.testing.assert_allclose(found[name], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert exported.report.iterates_compared
    assert np.array_equal(found["x"], found[names[-1]])


def test_iterations_that_do_not_tell_their_states(export: Export) -> None:
    with pytest.raises(ExportError, match=r"iterates of x: .* Mark the iterations with `unfoldc.iterate`"):
        export("Unalike")


def test_states_that_are_guessed_give_no_iterates() -> None:
    ops = tuple(make_op(onnx.helper.make_node(*node)) for node in (("Neg", ["y"], ["x0"]), ("Abs", ["x0"], ["x1"])))
    listing, labels = Listing(ops, ("y",), ("x1",)), Labels(2, (0, 1))
    grown, _, names = add_iterates(listing, labels, [State("x", ("x0", "x1"))], ["x"])
    assert (grown.outputs, names) == (("x1", "x0", "x1"), {"x": ("x.iterate.0", "x.iterate.1")})
    with pytest.raises(ExportError, match="not every iteration leaves"):
        add_iterates(listing, labels, [State("x", ("x0", "x1"), guessed=True)], ["x"])
    with pytest.raises(ExportError, match="not every iteration leaves"):
        add_iterates(listing, labels, [State("x", ("", "x1"))], ["x"])


def test_without_iterates_there_is_one_output(export: Export) -> None:
    exported = export("Unalike", iterates=False)
    assert [value.name for value in exported.model.graph.output] == ["x"]
    assert exported.metadata["iterates"] == {}
