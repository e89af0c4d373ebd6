"""The law of the iterates: iterate k is what the same solver with k + 1 iterations answers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from unfoldc.errors import ExportError

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


def test_without_iterates_there_is_one_output(export: Export) -> None:
    exported = export("Unalike", iterates=False)
    assert [value.name for value in exported.model.graph.output] == ["x"]
    assert exported.metadata["iterates"] == {}
