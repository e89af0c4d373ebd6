from __future__ import annotations

from typing import Any

import pytest
import torch
from nonnegative_solver import ByInverse, NonNegative, problems

from unfoldc.unfold_train import Input, approximate, count_multiply_adds, unfold
from unfoldc.unfold_train.approximations import APPROXIMATIONS, Neumann, NewtonSchulz

K, M, N = 3, 12, 5
GRAM = M * N * N
FILTER = M * N
CHOLESKY = -(-(N**3) // 6)
SUBSTITUTIONS = 2 * -(-(N * N) // 2)


def count(kind: Any, tied: bool, **operations: Any) -> Any:
    data = problems(2)
    network = unfold(kind(A=Input(), rho=0.7), iterations=K, learn=["rho"], tied=tied, example=dict(data.inputs))
    network = approximate(network, operations) if operations else network
    return count_multiply_adds(network, data.inputs)


def test_a_matrix_that_stays_is_factored_once_in_begin() -> None:
    found = count(NonNegative, tied=True)
    assert found.once == {"solve": CHOLESKY}
    shifted = N * N  # rho I
    assert found.begin == GRAM + FILTER + CHOLESKY + shifted
    assert found.iterations == (SUBSTITUTIONS + N,) * K  # and rho (z - u)
    assert found.total == found.begin + sum(found.iterations) + found.end


def test_a_matrix_that_changes_is_factored_in_every_iteration() -> None:
    found = count(NonNegative, tied=False)
    assert found.once == {}
    assert found.begin == GRAM + FILTER
    assert found.iterations == (SUBSTITUTIONS + CHOLESKY + N + N * N,) * K


def test_an_inverse_of_a_matrix_that_stays_is_computed_once() -> None:
    assert count(ByInverse, tied=True).once == {"inverse": N**3}
    assert count(ByInverse, tied=False).once == {}


def test_a_constant_matrix_costs_nothing_at_run_time() -> None:
    data = problems(2, each=False)
    network = unfold(NonNegative(A=data.inputs["A"]), iterations=K)
    found = count_multiply_adds(network, {"y": data.inputs["y"]})
    assert found.begin == FILTER and found.once == {}


def test_approximations_cost_what_they_say_and_a_warm_start_counts_in_begin() -> None:
    matrix, right = torch.zeros(1, N, N), torch.zeros(1, N, 1)
    for order in (1, 2, 3):
        plain, warm = Neumann(order), Neumann(order, warm_start=True)
        cold_count, warm_count = count(NonNegative, False, solve=plain), count(NonNegative, False, solve=warm)
        for approximation, found in ((plain, cold_count), (warm, warm_count)):
            elementwise = found.iterations[1] - approximation.multiply_adds(matrix, right)
            assert N * N <= elementwise <= N * N + 6 * N * (order + 1)
        start = warm_count.begin - cold_count.begin
        assert warm.start_multiply_adds(matrix, right) <= start <= warm.start_multiply_adds(matrix, right) + 60 * N
    cold, warm_inverse = (
        count(ByInverse, False, inverse=NewtonSchulz(1, warm_start=w, first_steps=16)) for w in (False, True)
    )
    assert warm_inverse.begin - cold.begin > 16 * 2 * N**3


@pytest.mark.parametrize("name", sorted(n for n, a in APPROXIMATIONS.items() if "solve" in a.operations))
def test_every_approximation_of_a_solve_is_counted(name: str) -> None:
    found = count(NonNegative, False, solve=APPROXIMATIONS[name]())
    approximation = APPROXIMATIONS[name]()
    products = approximation.multiply_adds(torch.zeros(1, N, N), torch.zeros(1, N, 1))
    assert products <= found.iterations[1] <= products + 2 * N * N + 40 * N


def test_what_is_written_in_place_counts() -> None:
    class InPlace(NonNegative):
        def step(self, v: Any, state: Any) -> Any:
            z, u = state
            z = (z * 2).mul_(3)  # 2 N
            out = torch.zeros_like(z)
            out[:, 0] = (z * z)[:, 0]  # N
            return torch.log1p(out), u  # N

    assert count(InPlace, tied=False).iterations[1:] == (4 * N,) * (K - 1)
