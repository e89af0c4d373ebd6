from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unfoldc.errors import InputError
from unfoldc.unfold_train import Derived, Hyper, Input, Ista, Objective, Solver, SynthesisIsta, View, unfold
from unfoldc.unfold_train.solvers import SOLVERS, find_solver


def test_numbers_and_arrays_take_one_type() -> None:
    solver = Ista(A=np.ones((2, 3), dtype=np.float64), rho=1)
    assert solver.dtype == torch.float64
    assert solver.given["rho"].dtype == torch.float64
    assert Ista(A=torch.ones(2, 3), rho=np.float64(0.1)).given["rho"].dtype == torch.float32


def test_given_arrays_are_copies() -> None:
    array = np.ones((2, 3), dtype=np.float32)
    solver = Ista(A=array, rho=0.1)
    array[:] = 0
    assert solver.given["A"].min() == 1


def test_a_subclass_keeps_the_order_and_overrides_values() -> None:
    assert list(SynthesisIsta.values)[:2] == ["y", "A"]
    assert isinstance(SynthesisIsta.values["A"], Derived)
    assert isinstance(Ista.values["A"], Objective)


def test_converted_inputs_come_after_declared_ones() -> None:
    assert Ista(rho=Input(), A=Input()).inputs == ("y", "A", "rho")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"A": np.ones((2, 3)), "lam": 1.0}, "Ista(lam=...): unknown value; allowed: y, A, rho"),
        ({"y": np.ones(2)}, "Ista(y=...): it is an input of each call"),
        ({"A": "text"}, "Ista(A=...): found str; allowed: a number, an array"),
        ({"A": np.ones((2, 3), dtype=np.int64)}, "Ista(A=...): found torch.int64"),
        ({"A": np.array([[1.0, np.nan, np.inf]])}, "Ista(A=...): 2 of 3 numbers are NaN or infinite"),
        ({"A": np.ones((2, 3)), "B": np.ones((2, 4))}, "Ista.B: shape (2, 4) has n = 4; allowed: (m, n) with n = 3"),
        ({"A": np.ones((2, 3, 4))}, "Ista.A: shape (2, 3, 4); allowed: 2 axes (m, n)"),
        (
            {"A": np.ones((2, 3)), "B": np.ones((2, 3), np.float32)},
            "Ista: mixed types: A torch.float64, B torch.float32",
        ),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Ista(**given)


def test_indices_must_be_whole_numbers() -> None:
    with pytest.raises(InputError, match=re.escape("SynthesisIsta(rows=...): found torch.float32; allowed: whole")):
        SynthesisIsta(rows=torch.tensor([1.0]))


def test_names_that_modules_use_are_refused() -> None:
    for name in ("training", "k", "held", "_hidden"):
        with pytest.raises(InputError, match=f"Bad.{name}: the name is used"):
            type("Bad", (Solver,), {name: Objective()})


class Circle(Solver):
    y = Input("m")
    a = Derived(lambda v: v.b)
    b = Derived(lambda v: v.a)
    open = Objective()
    wrong = Hyper(lambda v: v.nothing)

    def init(self, v: View) -> Tensor:
        return v.y

    def step(self, v: View, state: Tensor) -> Tensor:
        return state

    def output(self, v: View, state: Tensor) -> Tensor:
        return state


@pytest.mark.parametrize(
    ("learn", "message"),
    [
        ("a", "Circle.a: depends on itself: a -> b -> a"),
        ("open", "Circle.open: has no value"),
        ("wrong", "Circle.nothing: unknown value; allowed: y, a, b, open, wrong"),
    ],
)
def test_formulas_that_lead_nowhere_are_named(learn: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        unfold(Circle(), iterations=1, learn=[learn], example={"y": torch.zeros(1, 2)})


def test_solvers_are_found_by_name() -> None:
    assert find_solver("Ista") is Ista
    assert find_solver("Circle", [Circle]) is Circle
    assert all(find_solver(name).__name__ == name for name in SOLVERS)
    with pytest.raises(InputError, match="unknown name 'Circle'; allowed: BoxAdmm, Fista"):
        find_solver("Circle")
