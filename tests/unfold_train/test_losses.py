from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

from unfoldc.errors import InputError, TrainingError
from unfoldc.unfold_train import Ista, Loss, Problems, Solver, SynthesisIsta, Unfolded, unfold


def network(sparse: Any, iterations: int = 3) -> Unfolded:
    solver = SynthesisIsta(H=sparse.H, Psi=sparse.Psi, rows=sparse.rows, rho=sparse.rho)
    return unfold(solver, iterations=iterations, learn=["mu", "theta"])


def test_weights() -> None:
    assert Loss("last").weights(3) == [0, 0, 1]
    expected = [math.log(1 + k) for k in (1, 2, 3)]
    assert Loss("log").weights(3) == pytest.approx([w / sum(expected) for w in expected])


def test_supervised_losses_weigh_the_error_of_each_iterate(sparse: Any) -> None:
    net, problems = network(sparse), Problems({"y": sparse.y}, sparse.truth)
    errors = [float((x.detach() - sparse.truth).square().mean()) for x in net.iterates(sparse.y)]
    assert Loss("last").errors(net, problems) == pytest.approx(errors)
    for weighting in ("last", "log"):
        loss = Loss(weighting)
        weights = loss.weights(3)
        expected = sum(w * e for w, e in zip(weights, errors, strict=True))
        assert float(loss(net, problems).detach()) == pytest.approx(expected)
        assert loss.combine(errors) == pytest.approx(expected)
    assert float(Loss("last")(net, problems, iterations=2).detach()) == pytest.approx(errors[1])


def test_the_unsupervised_loss_is_the_objective_and_needs_no_truth(sparse: Any) -> None:
    net, problems = network(sparse), Problems({"y": sparse.y})
    loss = Loss("last", supervised=False)
    x = torch.from_numpy(sparse.ista(3)[-1])
    expected = 0.5 * (sparse.y - x @ sparse.A.T).square().sum(1) + sparse.rho * x.abs().sum(1)
    assert float(loss(net, problems).detach()) == pytest.approx(float(expected.mean()))
    errors = loss.errors(net, problems)
    assert errors == sorted(errors, reverse=True)


def test_errors_do_not_depend_on_the_size_of_the_pieces(sparse: Any) -> None:
    net = network(sparse)
    many = Problems({"y": sparse.y.repeat(60, 1)}, sparse.truth.repeat(60, 1))
    assert Loss().errors(net, many) == pytest.approx(Loss().errors(net, Problems({"y": sparse.y}, sparse.truth)))


def test_losses_that_cannot_be_computed_are_named(sparse: Any) -> None:
    with pytest.raises(InputError, match=re.escape("Loss(weighting=...): 'first'; allowed: 'last' or 'log'")):
        Loss("first")  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match=re.escape("supervised loss: no truth; allowed: shape (40, 4)")):
        Loss()(network(sparse), Problems({"y": sparse.y}))
    with pytest.raises(TrainingError, match=re.escape("supervised loss: truth of shape (40, 9)")):
        Loss()(network(sparse), Problems({"y": sparse.y}, torch.zeros(40, 9)))

    class Silent(Ista):
        objective = Solver.objective

    with pytest.raises(TrainingError, match="Silent: the solver defines no objective"):
        Loss(supervised=False)(unfold(Silent(A=sparse.A, rho=0.1), iterations=1), Problems({"y": sparse.y}))
