from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from nonnegative_solver import ByInverse, NonNegative, problems

from unfoldc.errors import InputError, TrainingError
from unfoldc.unfold_train import (
    Derived,
    Input,
    Problems,
    Settings,
    Status,
    Unfolded,
    approximate,
    compensate,
    unfold,
)
from unfoldc.unfold_train.approximations import Neumann, NewtonSchulz, PolynomialExp
from unfoldc.unfold_train.approximations.text import names, read_approximation
from unfoldc.unfold_train.compensating import FIGURES
from unfoldc.unfold_train.conditions_on_data import convergence_warnings

K = 3
SHORT = Settings(steps=300, batch=64, rate=0.1, schedule="sequential then end to end", validate_every=40)


def network(data: Problems, kind: Any = NonNegative, **options: Any) -> Unfolded:
    return unfold(kind(A=Input(), rho=0.3), iterations=K, learn=["rho"], example=dict(data.inputs), **options)


@pytest.fixture(scope="module")
def found() -> Any:
    training, fresh = problems(400, seed=1), problems(200, seed=2)
    plain = network(training)
    approximated = approximate(plain, {"solve": Neumann(order=1, warm_start=True, learn="scalar")})
    before = {n: t.clone() for n, t in approximated.state_dict().items()}
    result = compensate(approximated, training, fresh=fresh, settings=SHORT, progress=False)
    assert all(torch.equal(before[n], t) for n, t in approximated.state_dict().items())
    return result, plain, approximated, fresh


def mean_squared(network: Unfolded, data: Problems) -> list[float]:
    assert data.truth is not None
    return [
        float((x.detach() - data.truth).square().mean())
        for x in network.iterates(*(data.inputs[n] for n in network.inputs))
    ]


def test_four_figures_on_fresh_problems(found: Any) -> None:
    result, plain, approximated, fresh = found
    assert [f.name for f in result.figures] == list(FIGURES)
    wanted = (plain, result.exact_network, approximated, result.network)
    for figure, of in zip(result.figures, wanted, strict=True):
        np.testing.assert_allclose(figure.errors, mean_squared(of, fresh), rtol=1e-9)


def test_training_makes_up_for_the_approximation(found: Any) -> None:
    result = found[0]
    exact, trained, approximated, compensated = (f.errors[-1] for f in result.figures)
    assert trained < exact and exact < approximated and compensated < approximated
    gap = (approximated - compensated) / (approximated - exact)
    assert result.gap_closed() == pytest.approx(gap) and gap > 0.5
    assert result.gap_closed("exact and trained") < result.gap_closed()


def test_costs_say_what_is_done_once(found: Any) -> None:
    exact, trained = (found[0].figure(n).multiply_adds for n in FIGURES[:2])
    assert exact.once and not trained.once  # one rho is factored once, learned ones in every iteration
    text = str(found[0])
    assert "exact: site solve factors its matrix once" in text
    assert "% of the gap to exact\n" in text and "% of the gap to exact and trained" in text
    numbers = json.loads(found[0].to_json())
    assert [f["name"] for f in numbers["figures"]] == list(FIGURES)
    assert numbers["figures"][0]["multiply_adds"]["total"] == exact.total


def test_broken_conditions_are_reported_with_the_number() -> None:
    data = problems(50, m=6, n=5, seed=3)
    found = approximate(network(data), {"solve": Neumann(order=2)})
    M = data.inputs["A"].mT @ data.inputs["A"] + 0.3 * torch.eye(5, dtype=torch.float64)
    N = torch.eye(5) - M / M.diagonal(dim1=-2, dim2=-1)[..., None]
    radius = torch.linalg.eigvals(N).abs().amax(-1)
    [text] = convergence_warnings(found, data.inputs)
    assert float(radius.max()) > 1
    assert f"{float(radius.max()):.4g}" in text and f"{100 * float((radius >= 1).double().mean()):.3g} %" in text
    assert "GaussSeidel(sweeps=2)" in text.rpartition(";")[2] and "Neumann(order=2, start='norm')" in text
    good = problems(50, m=400, n=5, seed=3)
    assert convergence_warnings(approximate(network(good), {"solve": Neumann(order=2)}), good.inputs) == ()


def test_ill_conditioned_matrices_are_reported() -> None:
    class Bare(ByInverse):
        M = Derived(lambda v: v.G, "n", "n")

    data = problems(4, m=6, n=5, seed=3)
    A = data.inputs["A"].clone()
    A[..., 0] = A[..., 1] * (1 + 1e-9)
    bad = Problems({**data.inputs, "A": A}, data.truth)
    found = approximate(network(data, Bare), {"inverse": NewtonSchulz(steps=4)})
    assert any("condition number" in text and "float64" in text for text in convergence_warnings(found, bad.inputs))


def test_an_interrupted_training_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    data = problems(100)
    found = approximate(network(data), {"solve": Neumann(order=1)})
    from unfoldc.unfold_train import train

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(train.Trainer, "_step", interrupted)
    result = compensate(found, data, fresh=data, settings=SHORT, progress=False)
    assert result.outcome.status is Status.INTERRUPTED and result.exact_outcome is None
    assert "exact and trained: not trained" in str(result)


def test_a_network_without_approximations_is_refused() -> None:
    data = problems(4)
    module: Any = torch.nn.Linear(2, 2)
    with pytest.raises(InputError, match="found Linear; allowed: an Unfolded network"):
        compensate(module, data, fresh=data)
    with pytest.raises(InputError, match="without approximations"):
        compensate(network(data), data, fresh=data)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("newton-schulz:1,warm", NewtonSchulz(1, warm_start=True)),
        ("neumann", Neumann()),
        ("neumann:3,norm,learn=matrix", Neumann(3, "norm", learn="matrix")),
        (" neumann : order=2 , warm ", Neumann(2, warm_start=True)),
        ("polynomial-exp:4,low=-3.5,high=0", PolynomialExp(4, low=-3.5, high=0)),
    ],
)
def test_approximations_as_text(text: str, wanted: Any) -> None:
    assert repr(read_approximation(text)) == repr(wanted)


@pytest.mark.parametrize(
    ("text", "operation", "says"),
    [
        ("neuman", "", "unknown name 'neuman'"),
        ("neumann", "exp", "polynomial-exp"),
        ("neumann:2,3,4,5,6", "", "option"),
        ("neumann:order=2,order=3", "", "option 'order=3'"),
        ("neumann:depth=3", "", "order=1"),
        ("neumann:-1", "", "1 to 64"),
        ("neumann:x", "", "1 to 64"),
        ("", "", "unknown name"),
    ],
)
def test_bad_texts_are_refused(text: str, operation: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_approximation(text, operation)


def test_every_name_is_read() -> None:
    assert all(names()[name].__name__.lower() == name.replace("-", "") for name in names())


@pytest.mark.parametrize(
    "text", ["neumann:2,warm_start=no", "truncated-svd:2.5", "polynomial-tanh:5,high=1e300", "skip:1"]
)
def test_options_of_another_kind_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_approximation(text)


def test_small_letters_are_read_as_truth_values() -> None:
    assert read_approximation("neumann:2,warm_start=false").uses_previous is False


def test_data_without_truth_are_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    data = problems(4)
    approximated = approximate(network(data), {"solve": Neumann()})
    monkeypatch.setattr("unfoldc.unfold_train.compensating.Trainer", None)
    with pytest.raises(TrainingError, match="no truth"):
        compensate(approximated, data, fresh=Problems(data.inputs))
    with pytest.raises(InputError, match="a frozen network"):
        compensate(approximated.frozen(), data, fresh=data)
