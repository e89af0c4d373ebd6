from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nonnegative_solver import ByInverse, NonNegative, admm, problems
from torch import Tensor

import unfoldc
from unfoldc.errors import InputError
from unfoldc.kernels.inspect import describe
from unfoldc.unfold_train import (
    Approximation,
    Derived,
    Input,
    Problems,
    Solver,
    Unfolded,
    View,
    approximate,
    call_sites,
    count_multiply_adds,
    exact,
    load_checkpoint,
    save_checkpoint,
    unfold,
)
from unfoldc.unfold_train.approximating import put_approximations
from unfoldc.unfold_train.approximations import (
    GaussSeidel,
    Neumann,
    NewtonSchulz,
    NewtonSqrt,
    PolynomialExp,
    Skip,
)

K = 4


def network(kind: type[Solver] = NonNegative, data: Problems | None = None, **options: Any) -> Unfolded:
    data = data or problems(3)
    return unfold(kind(A=Input()), iterations=K, example=dict(data.inputs), **options)


def iterates(network: Unfolded, data: Problems) -> list[Tensor]:
    return network.iterates(*(data.inputs[name] for name in network.inputs))


def test_the_exact_solver_is_the_classical_one_at_every_iterate() -> None:
    data = problems(3)
    for kind in (NonNegative, ByInverse):
        found = iterates(network(kind), data)
        for i in range(3):
            expected = admm(data.inputs["y"][i].numpy(), data.inputs["A"][i].numpy(), [0.5] * K)
            for x, wanted in zip(found, expected, strict=True):
                np.testing.assert_allclose(x[i], wanted, atol=1e-12)


def test_enough_steps_of_an_approximation_are_the_exact_solver() -> None:
    data = problems(3)
    for kind, key, close in (
        (NonNegative, "solve", GaussSeidel(sweeps=60)),
        (NonNegative, "solve", Neumann(order=60, start="norm", warm_start=True)),
        (ByInverse, "inverse", NewtonSchulz(steps=16)),
        (ByInverse, "inverse", NewtonSchulz(steps=1, warm_start=True)),
    ):
        plain = network(kind)
        found = approximate(plain, {key: close})
        for a, b in zip(iterates(found, data), iterates(plain, data), strict=True):
            np.testing.assert_allclose(a.detach(), b.detach(), atol=2e-3 if close.__class__ is Neumann else 1e-5)
        rough = approximate(plain, {key: Neumann(order=1)})
        assert (rough(**data.inputs) - plain(**data.inputs)).norm() > 1e-2 * plain(**data.inputs).norm()


def test_the_original_is_left_alone_and_shares_nothing() -> None:
    plain = network(learn=["rho"])
    before = copy.deepcopy(plain.state_dict())
    found = approximate(plain, {"solve": Neumann(order=2, learn="scalar")})
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.3)
    assert not plain.approximated and set(plain.state_dict()) == set(before)
    assert all(torch.equal(plain.state_dict()[n], before[n]) for n in before)


def test_chosen_iterations_and_one_site_among_two() -> None:
    class Twice(NonNegative):
        def solved(self, v: View, b: Tensor) -> Tensor:
            return 0.5 * v.solve(v.M, b, definite=True) + 0.5 * v.solve(v.M, b, definite=True, site="second")

    data = problems(3)
    plain = network(Twice)
    assert [v.site for v in call_sites(plain)] == ["solve", "second"] * K
    found = approximate(plain, {"second": Neumann(order=2)}, iterations=[1, 3])
    texts = found.approximated
    assert list(texts) == ["second"]
    assert [t == "exact" for t in texts["second"]] == [True, False, True, False]
    a, b = iterates(found, data), iterates(plain, data)
    assert torch.equal(a[0], b[0]) and not torch.allclose(a[1], b[1])
    both = approximate(plain, {"solve": Neumann(order=2)})
    assert list(both.approximated) == ["solve", "second"]


def test_calls_are_numbered_and_blocks_give_their_name() -> None:
    class Blocks(NonNegative):
        def solved(self, v: View, b: Tensor) -> Tensor:
            def inside(b: Tensor) -> Tensor:
                return v.solve(v.M, v.solve(v.M, b))

            return v.block("outer", inside, b)

    plain = network(Blocks)
    assert [v.site for v in call_sites(plain)][:3] == ["outer", "outer_solve", "outer_solve_2"]
    found = approximate(plain, {"outer": Skip()}, iterations=[2])
    assert [v.site for v in call_sites(found) if v.iteration == 2] == ["outer"]


def test_a_warm_start_carries_the_answer_of_the_iteration_before() -> None:
    """Against the recursion written down by hand, every iterate."""
    data = problems(2)
    found = approximate(network(data=data), {"solve": Neumann(order=2, warm_start=True)})
    answers = iterates(found, data)
    for i in range(2):
        y, A = data.inputs["y"][i].numpy(), data.inputs["A"][i].numpy()
        M, f = A.T @ A + 0.5 * np.eye(5), A.T @ y
        d = 1 / np.diag(M)
        z, u = np.zeros(5), np.zeros(5)
        N = np.eye(5) - d[:, None] * M
        x = d * f + N @ (d * f) + N @ N @ (d * f)  # cold, of the same order, in begin
        for k in range(K):
            r = d * (f + 0.5 * (z - u) - M @ x)
            x = x + r + N @ r
            z, u = np.maximum(x + u, 0), u + x - np.maximum(x + u, 0)
            np.testing.assert_allclose(answers[k][i].detach(), z, atol=1e-12)


def test_a_skipped_iteration_hands_the_warm_start_on() -> None:
    """Exact in iteration 0: the warm start of iteration 1 begins from the exact answer, so that one step is enough."""
    data = problems(2)
    plain = network(ByInverse, data)
    warm = {"inverse": NewtonSchulz(steps=1, warm_start=True, first_steps=0)}
    later = approximate(plain, warm, iterations=range(1, K))
    np.testing.assert_allclose(later(**data.inputs).detach(), plain(**data.inputs).detach(), atol=1e-12)
    at_once = approximate(plain, warm)
    assert (at_once(**data.inputs) - plain(**data.inputs)).norm() > 1e-3 * plain(**data.inputs).norm()


def test_float32_and_other_batches_and_one_matrix_for_all() -> None:
    data = problems(7, each=False)
    plain = unfold(NonNegative(A=data.inputs["A"].float()), iterations=K)
    found = approximate(plain, {"solve": Neumann(order=2, warm_start=True, learn="diagonal")})
    y = data.inputs["y"].float()
    whole = found(y)
    assert whole.dtype == torch.float32
    np.testing.assert_allclose(whole[3:4].detach(), found(y[3:4]).detach(), atol=1e-6)


def test_an_iteration_that_changes_nothing_is_refused() -> None:
    class Whole(NonNegative):
        def step(self, v: View, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            z, u = state
            z = v.block("z", lambda z, u: torch.relu(v.solve(v.M, v.f + v.rho * (z - u))), z, u)
            return z, u

    assert approximate(network(Whole), {"z_solve": Neumann()}) is not None
    with pytest.raises(InputError, match="iteration 2: all its blocks are skipped"):
        approximate(network(Whole), {"z": Skip()}, iterations=[2])


def test_init_has_sites_of_its_own() -> None:
    class Started(NonNegative):
        def init(self, v: View) -> tuple[Tensor, Tensor]:
            x = v.solve(v.M, v.f, definite=True)
            return x, torch.zeros_like(x)

    plain = network(Started)
    assert [v.site for v in call_sites(plain)] == ["init_solve", *["solve"] * K]
    found = approximate(plain, {"init_solve": Neumann(order=1)})
    assert found.approximated == {"init_solve": [repr(Neumann(order=1))]}
    assert not approximate(plain, {"solve": Neumann(order=1)}, iterations=[0]).begin.approximations
    assert count_multiply_adds(found, plain.example).begin > 0


def test_exact_takes_the_approximations_out() -> None:
    data = problems(3)
    plain = network(learn=["rho"])
    found = exact(approximate(plain, {"solve": Neumann(order=1)}))
    assert torch.equal(found(**data.inputs), plain(**data.inputs)) and not found.approximated


@pytest.mark.parametrize("learn", ["none", "scalar", "diagonal", "matrix"])
def test_checkpoints_keep_approximations(learn: Any, tmp_path: Path) -> None:
    data = problems(3)
    found = approximate(network(learn=["rho"]), {"solve": Neumann(2, warm_start=True, learn=learn)}, iterations=[0, 2])
    found = approximate(found, {"solve": GaussSeidel(sweeps=2)}, iterations=[3])
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    save_checkpoint(tmp_path / "a", found)
    back = load_checkpoint(tmp_path / "a", [NonNegative]).network
    assert back.approximated == found.approximated and back.learned_parts == found.learned_parts
    assert torch.equal(back(**data.inputs), found(**data.inputs))


def test_an_approximation_of_ones_own(tmp_path: Path) -> None:
    class Scaled(Approximation):
        operations = ("solve",)

        def __init__(self, factor: float = 0.1) -> None:
            super().__init__(factor=factor)
            self.factor = torch.nn.Parameter(torch.tensor(factor, dtype=torch.float64))

        def forward(self, previous: Any, A: Tensor, b: Tensor) -> Tensor:  # type: ignore[override]
            return self.factor * b

    found = approximate(network(learn=["rho"]), {"solve": Scaled(0.3)})
    assert found.learned_parts == ("solve.factor",) and found.learned_numbers == 2 * K
    save_checkpoint(tmp_path / "a", found)
    with pytest.raises(Exception, match="Scaled"):
        load_checkpoint(tmp_path / "a", [NonNegative])
    back = load_checkpoint(tmp_path / "a", [NonNegative], [Scaled]).network
    assert back.approximated == found.approximated


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "key", "approximation"),
    [
        (NonNegative, "solve", Neumann(order=2, warm_start=True, learn="scalar")),
        pytest.param(NonNegative, "solve", GaussSeidel(sweeps=2), marks=pytest.mark.slow),
        (ByInverse, "inverse", NewtonSchulz(steps=1, warm_start=True, first_steps=3)),
        (NonNegative, "solve", None),
        pytest.param(ByInverse, "inverse", None, marks=pytest.mark.slow),
    ],
)
def test_approximated_and_exact_networks_reach_the_device(
    kind: type[Solver], key: str, approximation: Any, tmp_path: Path
) -> None:
    data = problems(3)
    found = network(kind, learn=["rho"])
    found = approximate(found, {key: approximation}) if approximation is not None else found
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    frozen = found.frozen()
    path = tmp_path / "solver.onnx"
    unfoldc.export_onnx(frozen, frozen.example_inputs, path, iterations="iteration")
    inspection = describe(path)
    assert inspection.rolled and inspection.iterations == K and inspection.early_stop == ""
    solver = unfoldc.compile(path, backend="c", cache=False)
    inputs = {n: t.numpy() for n, t in data.inputs.items()}
    for k, wanted in enumerate(iterates(found, data), 1):
        answer = next(iter(solver.run(inputs, iterations=k).outputs.values()))
        np.testing.assert_allclose(answer, wanted.detach(), atol=1e-10)


BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {}, "no operation"),
    ({"inverse": Neumann()}, {}, "no operation or call site inverse"),
    ({"solve": NewtonSchulz()}, {}, "which replaces inverse"),
    ({"solve": PolynomialExp(3)}, {}, "which replaces exp"),
    ({"solve": "neumann"}, {}, "an Approximation"),
    ({"solve": Neumann()}, {"iterations": [0, K]}, f"{K}; allowed: 0 to {K - 1}"),
]


@pytest.mark.parametrize(("operations", "options", "says"), BAD)
def test_what_does_not_fit_is_refused(operations: Any, options: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        approximate(network(), operations, **options)


def test_frozen_networks_are_refused() -> None:
    with pytest.raises(InputError, match="frozen"):
        approximate(network().frozen(), {"solve": Neumann()})


def test_singular_and_indefinite_matrices_are_errors_not_numbers() -> None:
    class Indefinite(NonNegative):
        M = Derived(lambda v: v.G - 10 * torch.eye(5, dtype=v.A.dtype), "n", "n")

    class Singular(ByInverse):
        M = Derived(lambda v: 0 * v.G, "n", "n")

    for kind, says in ((Indefinite, "3 of 3 matrices are not positive definite"), (Singular, "3 of 3 .* singular")):
        with pytest.raises(InputError, match=says):
            network(kind)


def test_an_answer_that_is_not_finite_is_an_error() -> None:
    data = problems(3)
    found = approximate(network(), {"solve": Neumann(order=2, start="identity")})
    with pytest.raises(InputError, match=r"site solve, iteration 0: Neumann.*NaN or infinite"):
        found(data.inputs["y"], 1e100 * data.inputs["A"])


def test_shapes_are_checked_at_the_call() -> None:
    class Wrong(NonNegative):
        def solved(self, v: View, b: Tensor) -> Tensor:
            return v.inverse(v.A) @ b

    with pytest.raises(InputError, match=r"inverse\(A\): shape .*12, 5"):
        network(Wrong)


class ByFormula(NonNegative):
    """The inverse is a value of its own, that depends on no input but on a learned number."""

    P = Derived(lambda v: v.inverse(v.M), "n", "n")
    scale = Derived(lambda v: v.sqrt(v.rho))

    def solved(self, v: View, b: Tensor) -> Tensor:
        return v.scale * v.sqrt(1 / v.rho) * (b @ v.P)


@pytest.mark.parametrize("tied", [False, True])
def test_a_frozen_network_gives_what_the_network_gives(tied: bool) -> None:
    """Also where formulas are approximated: they become constants, and the names of the other sites stay."""
    data = problems(3, each=False)
    plain = unfold(ByFormula(A=data.inputs["A"]), iterations=K, learn=["rho"], tied=tied)
    sites = {v.site for v in call_sites(plain)}
    assert sites == ({"init_P_inverse", "init_scale_sqrt", "sqrt"} if tied else {"P_inverse", "scale_sqrt", "sqrt"})
    rough = {"inverse": NewtonSchulz(steps=2, start="diagonal"), "sqrt": NewtonSqrt(steps=1, low=0.1, high=3.0)}
    y = data.inputs["y"]
    for found in (approximate(plain, rough), approximate(plain, {"sqrt": rough["sqrt"]}, iterations=range(K))):
        assert (found(y) - plain(y)).abs().max() > 1e-4
        np.testing.assert_allclose(found.frozen()(y), found(y).detach(), atol=1e-12)


def test_an_answer_changed_in_place_is_refused_for_a_warm_start() -> None:
    class Writes(NonNegative):
        def solved(self, v: View, b: Tensor) -> Tensor:
            return v.solve(v.M, b, definite=True).mul_(2)

    found = approximate(network(Writes), {"solve": Neumann(warm_start=True)})
    with pytest.raises(InputError, match="changed in place"):
        found(**problems(3).inputs)


@pytest.mark.parametrize("site", ["keys", "x.y", "__class__"])
def test_a_site_whose_name_cannot_be_stored_is_refused(site: str) -> None:
    class Named(NonNegative):
        def solved(self, v: View, b: Tensor) -> Tensor:
            return v.solve(v.M, b, site=site)

    with pytest.raises(InputError, match="Rename the site"):
        approximate(network(Named), {"solve": Neumann()})


def test_iterations_without_a_call_are_refused() -> None:
    wrong: Any
    for wrong in ([], 2):
        options: Any = {"iterations": wrong}
        with pytest.raises(InputError, match=r"approximate\(iterations="):
            approximate(network(), {"solve": Neumann()}, **options)


def test_a_checkpoint_with_two_approximations_at_one_site_is_refused() -> None:
    entry = {"site": "solve", "name": "Neumann", "options": {}, "iterations": [1]}
    with pytest.raises(InputError, match="two at the site solve"):
        put_approximations(network(), [entry, entry])
