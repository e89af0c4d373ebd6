from __future__ import annotations

from typing import Any

import torch

from unfoldc.unfold_train import Fista, Ista, SynthesisFista, SynthesisIsta, unfold
from unfoldc.unfold_train.solvers.fista import momentum


def test_fista_reaches_the_optimality_conditions(sparse: Any) -> None:
    x = unfold(Fista(A=sparse.A, rho=sparse.rho), iterations=1000)(sparse.y)
    pull = (sparse.y - x @ sparse.A.T) @ sparse.A
    on = x != 0
    torch.testing.assert_close(pull[on], sparse.rho * x[on].sign(), atol=1e-4, rtol=0)
    assert float(pull[~on].abs().max()) <= sparse.rho + 1e-4
    assert on.any() and (~on).any()


def test_fista_falls_faster_than_ista(sparse: Any) -> None:
    inputs = {"y": sparse.y}
    values = {}
    for kind in (Ista, Fista):
        network = unfold(kind(A=sparse.A, rho=sparse.rho), iterations=40)
        values[kind] = [float(network.objective(inputs, state).mean()) for _, state in network.trajectory(inputs)]
    assert values[Ista] == sorted(values[Ista], reverse=True)
    longer = unfold(Fista(A=sparse.A, rho=sparse.rho), iterations=400)
    *_, (_, state) = longer.trajectory(inputs)
    best = float(longer.objective(inputs, state).mean())
    assert values[Fista][-1] - best < 0.3 * (values[Ista][-1] - best)


def test_momentum_follows_its_recursion() -> None:
    assert momentum(0) == 0
    t1 = (1 + 5**0.5) / 2
    assert abs(momentum(1) - (t1 - 1) / ((1 + (1 + 4 * t1**2) ** 0.5) / 2)) < 1e-15


def test_the_objective_is_the_classical_one_whatever_is_learned(sparse: Any) -> None:
    network = unfold(Ista(A=sparse.A, rho=sparse.rho), iterations=2, learn=["A", "B", "rho", "theta"], tied=True)
    x = sparse.y.new_ones(len(sparse.y), 14)
    expected = 0.5 * (sparse.y - x @ sparse.A.T).square().sum(1) + sparse.rho * 14
    torch.testing.assert_close(network.objective({"y": sparse.y}, x), expected)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    torch.testing.assert_close(network.objective({"y": sparse.y}, x), expected)


def test_the_wanted_rows_are_a_part_of_the_signal(sparse: Any) -> None:
    for kind in (SynthesisIsta, SynthesisFista):
        whole = unfold(kind(H=sparse.H, Psi=sparse.Psi, rho=sparse.rho), iterations=3)(sparse.y)
        part = unfold(kind(H=sparse.H, Psi=sparse.Psi, rows=sparse.rows, rho=sparse.rho), iterations=3)(sparse.y)
        assert whole.shape == (40, 9)
        torch.testing.assert_close(part, whole[:, sparse.rows])
