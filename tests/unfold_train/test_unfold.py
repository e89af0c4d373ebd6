from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unfoldc.errors import InputError
from unfoldc.unfold_train import (
    Hyper,
    Input,
    Ista,
    Lista,
    Objective,
    Solver,
    SynthesisIsta,
    SynthesisLista,
    Unfolded,
    View,
    unfold,
)
from unfoldc.unfold_train.holder import Iteration

VARIANTS: dict[str, tuple[type[Solver], list[str], bool | list[str]]] = {
    "classical": (SynthesisIsta, [], False),
    "hyperparameters": (SynthesisIsta, ["mu", "theta"], False),
    "hyperparameters, tied": (SynthesisIsta, ["mu", "theta"], True),
    "LISTA": (SynthesisLista, ["W1", "W2", "theta"], ["W1", "W2"]),
    "LISTA, untied": (SynthesisLista, ["W1", "W2", "theta"], False),
    "LISTA-CP": (SynthesisIsta, ["B", "theta"], False),
    "factored": (SynthesisIsta, ["A", "B", "Psi", "mu", "theta"], ["A", "B", "Psi"]),
    "factored, output dictionary": (SynthesisIsta, ["A", "B", "D", "mu", "theta"], ["A", "B", "D"]),
    "full form, hyperparameters": (SynthesisLista, ["mu", "theta"], False),
    "model": (SynthesisIsta, ["H"], True),
    "model and step": (SynthesisLista, ["H", "Psi", "mu"], ["H", "Psi"]),
}


def variant(name: str, sparse: Any, iterations: int = 5) -> Unfolded:
    solver, learn, tied = VARIANTS[name]
    made = solver(H=sparse.H, Psi=sparse.Psi, rows=sparse.rows, rho=sparse.rho)
    return unfold(made, iterations=iterations, learn=learn, tied=tied)


def disturb(network: Unfolded) -> Unfolded:
    """Move every learned number, as training does."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return network


@pytest.mark.parametrize("name", VARIANTS)
def test_the_untrained_network_is_the_classical_solver(name: str, sparse: Any) -> None:
    network = variant(name, sparse)
    expected = [x @ np.asarray(sparse.Psi).T[:, sparse.rows] for x in sparse.ista(5)]
    iterates = network.iterates(sparse.y)
    assert len(iterates) == 5
    for found, x in zip(iterates, expected, strict=True):
        np.testing.assert_allclose(found.detach(), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(network(sparse.y), iterates[-1], rtol=0, atol=0)


@pytest.mark.parametrize("name", VARIANTS)
def test_freezing_changes_no_answer_and_leaves_constants_alone(name: str, sparse: Any) -> None:
    network = disturb(variant(name, sparse))
    frozen = network.frozen()
    torch.testing.assert_close(frozen(sparse.y), network(sparse.y).detach(), rtol=1e-12, atol=1e-12)
    assert not list(frozen.parameters())
    stored = {key.rsplit(".", 1)[-1] for key in frozen.state_dict()}
    needed = (
        {"W1", "W2", "theta", "D"} if isinstance(network.solver, SynthesisLista) else {"A", "B", "mu", "theta", "D"}
    )
    assert stored == needed


def test_freezing_keeps_no_tie_to_the_trained_network(sparse: Any) -> None:
    network = variant("factored", sparse)
    frozen = network.frozen()
    before = frozen(sparse.y)
    disturb(network)
    assert torch.equal(frozen(sparse.y), before)


def test_what_is_learned_can_be_counted_and_read(sparse: Any) -> None:
    network = variant("hyperparameters", sparse, iterations=10)
    assert network.learned_numbers == 20 == sum(p.numel() for p in network.parameters())
    assert network.frozen().learned_numbers == 20
    assert dict(network.named_parameters()).keys() >= {"iteration.9.log_mu", "iteration.0.log_theta"}
    holder = network.iteration[3]
    assert isinstance(holder, Iteration)
    with torch.no_grad():
        holder.learned_parameter("theta").fill_(1.0)
    torch.testing.assert_close(network.value("theta", 3), np.e * network.value("theta", 2))
    tied = variant("factored", sparse)
    assert tied.learned["A"].tied and not tied.learned["mu"].tied
    assert {n for n, _ in tied.named_parameters() if n.startswith("shared")} == {"shared.A", "shared.B", "shared.Psi"}


def test_positive_values_stay_positive(sparse: Any) -> None:
    network = variant("hyperparameters", sparse)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(-30.0)
    assert 0 < float(network.value("mu", 2)) < 1e-9


def test_stopping_after_k(sparse: Any) -> None:
    network = disturb(variant("hyperparameters", sparse))
    iterates = network.iterates(sparse.y)
    for k in (1, 2, 5):
        assert torch.equal(network(sparse.y, iterations=k), iterates[k - 1])
    assert len(network.iterates(sparse.y, iterations=3)) == 3
    for k in (0, 6):
        with pytest.raises(InputError, match=f"called with iterations: {k}; allowed: 1 to 5"):
            network(sparse.y, iterations=k)


def test_every_learned_value_gets_a_gradient(sparse: Any) -> None:
    for name in VARIANTS:
        network = variant(name, sparse)
        if network.learned:
            network(sparse.y).square().sum().backward()
            for parameter, tensor in network.named_parameters():
                idle = parameter == "iteration.0.W2"  # multiplies the zero that the iterations start from
                assert tensor.grad is not None and (tensor.grad.abs().sum() > 0) != idle, (name, parameter)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("solver", [Ista, Lista])
def test_the_model_can_be_an_input_of_each_call(solver: type[Solver], batched: bool, sparse: Any) -> None:
    network = unfold(solver(A=Input(), rho=sparse.rho), iterations=4, example={"A": sparse.A})
    assert network.inputs == ("y", "A")
    assert [tuple(t.shape) for t in network.example_inputs] == [(2, 6), (6, 14)]
    other = 1.7 * sparse.A.flip(0)
    given = other.expand(len(sparse.y), *other.shape) if batched else other
    for found in (network(sparse.y, given), network(A=given, y=sparse.y), network.frozen()(sparse.y, given)):
        np.testing.assert_allclose(found, sparse.ista(4, A=other)[-1], atol=1e-12)


def test_a_network_with_the_model_as_input_learns_its_step_sizes(sparse: Any) -> None:
    solver = SynthesisIsta(H=Input(), Psi=sparse.Psi, rho=sparse.rho)
    network = unfold(solver, iterations=4, learn=["mu", "theta"], example={"H": sparse.H})
    expected = sparse.ista(4)[-1] @ np.asarray(sparse.Psi).T
    np.testing.assert_allclose(network(sparse.y, sparse.H).detach(), expected, atol=1e-12)
    assert "shared.Psi" in network.frozen().state_dict()


def test_a_number_can_differ_between_problems(sparse: Any) -> None:
    network = unfold(Ista(A=sparse.A, rho=Input()), iterations=3, example={"rho": torch.ones(2, dtype=torch.float64)})
    rho = torch.linspace(0.01, 0.5, len(sparse.y), dtype=torch.float64)
    found = network(sparse.y, rho)
    for i in (0, 17, 39):
        np.testing.assert_allclose(found[i], sparse.ista(3, rho=float(rho[i]))[-1][i], atol=1e-12)


class Momentum(Solver):
    """A classical value that changes with the iteration, a state of two tensors, and constants read in `init`."""

    y = Input("m")
    start = Objective("m")
    pull = Hyper(lambda v: v.number(1 / (2 + v.k)), positive=True)

    def init(self, v: View) -> tuple[Tensor, Tensor]:
        return v.start.expand(v.y.shape), v.y

    def step(self, v: View, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, target = state
        return x + v.pull * (target - x), target

    def output(self, v: View, state: tuple[Tensor, Tensor]) -> Tensor:
        return state[0]


def test_classical_values_may_change_with_the_iteration() -> None:
    y = torch.tensor([[1.0, 2.0]])
    for learn in ([], ["pull"]):
        network = unfold(Momentum(start=torch.zeros(2)), iterations=3, learn=learn)
        expected = y * (1 - (1 / 2) * (2 / 3) * (3 / 4))
        torch.testing.assert_close(network(y).detach(), expected)
        assert sorted(network.frozen().state_dict()) == [f"iteration.{k}.pull" for k in range(3)] + ["shared.start"]
    with pytest.raises(InputError, match="its classical value changes with the iteration"):
        unfold(Momentum(start=torch.zeros(2)), iterations=3, learn=["pull"], tied=True)


class Shrinking(Momentum):
    def step(self, v: View, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return state[0][:, :1], state[1]


def test_a_step_that_changes_shapes_is_refused() -> None:
    with pytest.raises(InputError, match=re.escape("Shrinking.step: a state of shapes [(2, 1), (2, 2)]")):
        unfold(Shrinking(start=torch.zeros(2)), iterations=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learn": ["W3"]}, "unfold(Lista, learn=...): W3 is an unknown value; allowed: A, rho, mu"),
        ({"learn": ["y"]}, "y is an input of each call"),
        ({"learn": "mu"}, "unfold(Lista, learn=...): 'mu'; allowed: a list"),
        ({"learn": ["mu", "mu"]}, "allowed: a list of different names"),
        ({"learn": ["mu"], "tied": ["theta"]}, "unfold(Lista, tied=...): theta is not learned; allowed: mu"),
        ({"iterations": 0}, "unfold(Lista): iterations=0; allowed: 1 to"),
        ({"example": {"A": torch.ones(2, 3)}}, "example of Lista: A is not an input; allowed: y"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str, sparse: Any) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        unfold(Lista(A=sparse.A, rho=0.1), **{"iterations": 3, **options})


def test_indices_are_not_learned(sparse: Any) -> None:
    with pytest.raises(InputError, match="rows is an index"):
        unfold(SynthesisIsta(H=sparse.H, Psi=sparse.Psi, rho=0.1), iterations=1, learn=["rows"])


def test_classical_values_must_be_finite_and_positive(sparse: Any) -> None:
    with pytest.raises(InputError, match=re.escape("Ista.theta: its classical value is 0; allowed: above zero")):
        unfold(Ista(A=sparse.A, rho=0.0), iterations=1, learn=["theta"])
    with pytest.raises(InputError, match=re.escape("Ista.mu: its classical value is NaN or infinite")):
        unfold(Ista(A=0 * sparse.A, rho=0.1), iterations=1, learn=["mu"])


class Scaled(Ista):
    mu = Hyper(lambda v: 1 / v.y.square().mean(), positive=True)


def test_values_that_depend_on_inputs_need_an_example(sparse: Any) -> None:
    with pytest.raises(InputError, match=re.escape("Ista.A: an input whose size (n) follows from no given value")):
        unfold(Ista(A=Input(), rho=0.1, theta=torch.ones(6)), iterations=1, example={"y": torch.zeros(1, 6)})
    with pytest.raises(InputError, match="its classical value depends on the input y"):
        unfold(Scaled(A=sparse.A, rho=0.1), iterations=1, learn=["theta"])
    network = unfold(Scaled(A=sparse.A, rho=0.1), iterations=1, learn=["mu"], example={"y": sparse.y})
    torch.testing.assert_close(network.value("mu"), 1 / sparse.y.square().mean())


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.zeros(2, 5, dtype=torch.float64), "Ista.y: shape (2, 5) has m = 5; allowed: (batch, m) with m = 6, as"),
        (torch.zeros(6, dtype=torch.float64), "Ista called with y: shape (6,); allowed: (batch, m)"),
        (torch.zeros(2, 1, 6, dtype=torch.float64), "shape (2, 1, 6); allowed: (batch, m)"),
        (torch.zeros(2, 6), "called with y: type torch.float32; allowed: torch.float64"),
        (np.zeros((2, 6)), "called with y: a ndarray; allowed: a torch tensor"),
    ],
)
def test_calls_that_do_not_fit_are_refused(y: Any, message: str, sparse: Any) -> None:
    network = unfold(Ista(A=sparse.A, rho=0.1), iterations=1)
    with pytest.raises(InputError, match=re.escape(message)):
        network(y)


def test_inputs_must_be_complete_and_agree(sparse: Any) -> None:
    network = unfold(Ista(A=Input(), rho=0.1), iterations=1, example={"A": sparse.A})
    with pytest.raises(InputError, match="called with inputs: 1 by position; allowed: y, A"):
        network(sparse.y)
    with pytest.raises(InputError, match="called with inputs: 2 by position, y; allowed"):
        network(sparse.y, sparse.A, y=sparse.y)
    with pytest.raises(InputError, match=re.escape("Ista.A: shape (3, 6, 14) has batch = 3")):
        network(sparse.y, sparse.A.expand(3, 6, 14))
