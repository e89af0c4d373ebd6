from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_modules import matrix, of
from torch import Tensor, nn

import unfoldc
from unfoldc.errors import InputError
from unfoldc.kernels.inspect import describe
from unfoldc.unfold_train import approximate
from unfoldc.unfold_train.approximations import (
    ConjugateGradient,
    Neumann,
    NewtonReciprocal,
    NewtonSchulz,
    PolynomialTanh,
    TruncatedSvd,
)

K, N = 4, 5
Solve = Callable[[Tensor, Tensor], Tensor]


def by_inverse(M: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.inv(M) @ b


def by_cholesky(M: Tensor, b: Tensor) -> Tensor:
    return torch.cholesky_solve(b, torch.linalg.cholesky(M))


def by_substitutions(M: Tensor, b: Tensor) -> Tensor:
    L = torch.linalg.cholesky(M)
    return torch.linalg.solve_triangular(L.mT, torch.linalg.solve_triangular(L, b, upper=False), upper=True)


def by_cholesky_inverse(M: Tensor, b: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(M)) @ b


def from_the_right(M: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.solve(M, b.mT, left=False).mT


def vector(M: Tensor, b: Tensor) -> Tensor:
    return torch.stack([torch.linalg.solve(M, column) for column in b[..., 0]])[..., None]


WAYS: dict[str, tuple[str, Solve]] = {
    "solve": ("solve", torch.linalg.solve),
    "vector": ("solve", vector),
    "right": ("solve", from_the_right),
    "inverse": ("inverse", by_inverse),
    "cholesky_solve": ("solve", by_cholesky),
    "cholesky_inverse": ("inverse", by_cholesky_inverse),
    "substitutions": ("solve", by_substitutions),
}


class Layer(nn.Module):
    A: Tensor

    def __init__(self, A: Tensor, way: str) -> None:
        super().__init__()
        self.register_buffer("A", A)
        self.scale = nn.Parameter(torch.ones(()))
        self.way = way

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        M = self.A.mT @ self.A + 3 * torch.eye(N)
        b = (y @ self.A)[..., None] + 3 * z
        return torch.relu(WAYS[self.way][1](M, b) * self.scale)


class Layers(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        A = torch.randn(9, N, generator=torch.Generator().manual_seed(0))
        self.layers = nn.ModuleList(Layer(A, way) for _ in range(K))

    def forward(self, y: Tensor) -> Tensor:
        z = y.new_zeros(y.shape[0], N, 1)
        for layer in self.layers:
            z = layer(y, z)
        return z[..., 0]


def inputs(batch: int = 3) -> Tensor:
    return torch.randn(batch, 9, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("way", sorted(WAYS))
def test_every_way_to_solve_is_seen(way: str) -> None:
    operation, model, y = WAYS[way][0], Layers(way), inputs()
    close = ConjugateGradient(steps=N) if operation == "solve" else NewtonSchulz(steps=14)
    rough = Neumann(order=1)
    exact = model(y).detach()
    found = approximate(model, {operation: close}, example_inputs=y)
    np.testing.assert_allclose(found(y).detach(), exact, rtol=1e-4, atol=1e-5)
    found = approximate(model, {operation: rough}, example_inputs=y)
    assert (found(y) - exact).norm() > 0.02 * exact.norm()
    assert len(found.approximations) == (K * 3 if way == "vector" else K)


def test_the_model_is_left_alone() -> None:
    model, y = Layers("solve"), inputs()
    before = copy.deepcopy(model.state_dict())
    found = approximate(model, {"solve": Neumann(order=2, learn="scalar")}, example_inputs=y)
    found(y).square().sum().backward()
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    gradients = [p.grad for n, p in found.named_parameters() if "approximations" in n]
    assert len(gradients) == 3 * K and all(g is not None and bool(g.abs().max() > 0) for g in gradients)


def test_chosen_calls_and_two_sites() -> None:
    class Two(nn.Module):
        def forward(self, A: Tensor) -> Tensor:
            x = A
            for _ in range(3):
                x = torch.linalg.inv(x + 2 * torch.eye(N)) + torch.linalg.inv(x + 5 * torch.eye(N))
            return x

    A = torch.rand(2, N, N) / N
    found = approximate(Two(), {"inverse__2": Neumann(order=3)}, iterations=[1], example_inputs=A)
    assert list(found.approximations) == ["inverse__2_1"]
    assert set(found.places.values()) == {"inverse", "inverse__2"}
    both = approximate(found, {"inverse": Neumann(order=3)}, example_inputs=A)
    assert len(both.approximations) == 3 + 1 or len(both.approximations) == 6
    with pytest.raises(InputError, match=r"no operation or call site inverse_3; allowed: its call sites: inverse "):
        approximate(Two(), {"inverse_3": Neumann()}, example_inputs=A)


def test_a_warm_start_goes_from_call_to_call() -> None:
    """By hand: x_k is the warm Neumann step from x_{k-1}."""
    model, y = Layers("solve"), inputs()
    found = approximate(model, {"solve": Neumann(order=1, warm_start=True)}, example_inputs=y)
    layer: Any = model.layers[0]
    M = layer.A.mT @ layer.A + 3 * torch.eye(N)
    d = 1 / M.diagonal()[:, None]
    z, x = torch.zeros(3, N, 1), None
    for _ in range(K):
        b = (y @ layer.A)[..., None] + 3 * z
        if x is None:
            x = d * b + d * (b - M @ (d * b))
        x = x + d * (b - M @ x)
        z = torch.relu(x)
    np.testing.assert_allclose(found(y).detach(), z[..., 0], rtol=1e-5, atol=1e-6)


def test_elementwise_functions_and_quotients() -> None:
    class Functions(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x) / (1.5 + x.square()) + 1 / (2 + x.abs()) + nn.functional.tanh(0.5 * x)

    x = torch.linspace(-1, 1, 21)[None]
    close = {"tanh": PolynomialTanh(15, high=2.0), "reciprocal": NewtonReciprocal(6, low=1.0, high=4.0)}
    found = approximate(Functions(), close, example_inputs=x)
    assert len(found.approximations) == 4
    np.testing.assert_allclose(found(x).detach(), Functions()(x), atol=1e-4)


def test_a_call_that_the_example_did_not_make_is_warned_of() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(1 if self.training else 3):
                x = torch.tanh(x)
            return x if self.training else x + torch.tanh(2 * x)

    x = torch.linspace(-0.5, 0.5, 11)[None]
    found = approximate(Branches(), {"tanh": PolynomialTanh(9, high=2.0)}, example_inputs=x)
    found(x)
    with pytest.warns(UserWarning, match="Branches: a call of tanh that the example did not make stays exact") as seen:
        found.eval()(x)
    assert len(seen) == 1
    np.testing.assert_allclose(found(x).detach(), Branches().eval()(x), atol=5e-3)


def test_singular_values() -> None:
    class LowRank(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            U, s, Vh = torch.linalg.svd(X, full_matrices=False)
            return (U[..., :2] * s[..., None, :2]) @ Vh[..., :2, :]

    generator = torch.Generator().manual_seed(0)
    X = torch.randn(2, 8, 2, generator=generator) @ torch.randn(2, 2, 6, generator=generator)
    X = X + 0.001 * torch.randn(2, 8, 6, generator=generator)
    found = approximate(LowRank(), {"svd": TruncatedSvd(steps=12)}, example_inputs=X)
    np.testing.assert_allclose(found(X).detach(), LowRank()(X), atol=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("way", "warm"), [("solve", True), ("inverse", False), ("substitutions", True)])
def test_an_approximated_module_is_compiled(way: str, warm: bool, tmp_path: Path) -> None:
    model, y = Layers(way), inputs()
    found = approximate(model, {WAYS[way][0]: Neumann(2, warm_start=warm, learn="scalar")}, example_inputs=y)
    unfoldc.export_onnx(found, (y,), tmp_path / "solver.onnx")
    inspection = describe(tmp_path / "solver.onnx")
    assert inspection.iterations == K and inspection.inputs[0].startswith("y ")
    assert inspection.segments[-1].count >= K - 1
    solver = unfoldc.compile(tmp_path / "solver.onnx", backend="c", cache=False)
    more = inputs(8)
    np.testing.assert_allclose(solver(more.numpy()), found(more).detach(), rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    model, y = Layers("solve"), inputs()
    with pytest.raises(InputError, match="no example inputs"):
        approximate(model, {"solve": Neumann()})
    with pytest.raises(InputError, match="which replaces inverse"):
        approximate(model, {"solve": NewtonSchulz()}, example_inputs=y)
    with pytest.raises(InputError, match="its call sites: solve"):
        approximate(model, {"inverse": NewtonSchulz()}, example_inputs=y)


def test_a_broken_condition_is_warned_of_and_calls_that_there_are_not_refused() -> None:
    model, y = Layers("solve"), inputs()
    with pytest.warns(UserWarning, match=r"Layers: site solve, iteration 0: Neumann\(.*does not converge in 100 %"):
        approximate(model, {"solve": Neumann(order=2, start="identity")}, example_inputs=y)
    with pytest.raises(InputError, match="9; allowed: .*: 0, 1, 2, 3"):
        approximate(model, {"solve": Neumann(order=2)}, iterations=[0, 9], example_inputs=y)


@pytest.mark.filterwarnings("ignore")
def test_a_range_that_fresh_inputs_leave_does_not_stop_the_export(tmp_path: Path) -> None:
    """The file gives NaN where the module refuses; both are compared."""

    class Functions(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(2):
                x = unfoldc.iterate(torch.tanh(x))
            return x

    x = torch.linspace(-0.9, 0.9, 21)[:, None]
    found = approximate(Functions(), {"tanh": PolynomialTanh(7, high=1.0)}, example_inputs=x)
    with pytest.raises(InputError, match="out of range"):
        found(3 * x)
    unfoldc.export_onnx(found, (x,), tmp_path / "solver.onnx")
    solver = unfoldc.compile(tmp_path / "solver.onnx", backend="c", cache=False)
    result = solver.run({"x": 3 * x.numpy()})
    assert result.status.name == "NOT_FINITE" and solver.run({"x": x.numpy()}).status.name != "NOT_FINITE"


@pytest.mark.filterwarnings("ignore")
def test_torch_compile_keeps_the_approximations() -> None:
    model, y = Layers("solve"), inputs()
    found = approximate(model, {"solve": Neumann(order=1)}, example_inputs=y)
    expected = found(y)
    assert (expected - model(y)).abs().max() > 1e-3
    assert torch.equal(torch.compile(found, backend="eager")(y), expected)
    found.module.compile(backend="eager")
    assert torch.equal(found(y), expected)


def test_answers_may_be_changed_in_place() -> None:
    def steps(relu: Callable[[Tensor], Tensor]) -> nn.Module:
        def run(M: Tensor, b: Tensor) -> Tensor:
            x = torch.zeros_like(b)
            for _ in range(K):
                x = relu(torch.linalg.solve(M, b + x))
            return x

        return of(run)

    warm = {"solve": Neumann(order=1, warm_start=True)}
    both = [approximate(steps(f), warm, example_inputs=matrix())(*matrix()) for f in (torch.relu, torch.relu_)]
    assert torch.equal(*both)


def test_matrices_of_another_size_begin_cold() -> None:
    def run(M: Tensor, b: Tensor) -> Tensor:
        return torch.stack([torch.linalg.solve(M[:n, :n], b[:n]).sum() for n in (2, 3, 3)])

    found = approximate(of(run), {"solve": Neumann(order=1, warm_start=True)}, example_inputs=matrix())
    alone = approximate(of(run), {"solve": Neumann(order=1, warm_start=True)}, iterations=[1], example_inputs=matrix())
    np.testing.assert_allclose(found(*matrix())[1], alone(*matrix())[1], rtol=1e-6)


def test_the_search_for_call_sites_leaves_no_trace() -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(N)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(nn.functional.dropout(self.norm(x), training=self.training))

    model = Normalised()
    state = torch.random.get_rng_state()
    found = approximate(model, {"tanh": PolynomialTanh()}, example_inputs=torch.ones(4, N))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(model.state_dict()[n], t) for n, t in found.module.state_dict().items())
    assert not approximate(model.eval(), {"tanh": PolynomialTanh()}, example_inputs=torch.ones(4, N)).training


def test_an_approximated_part_is_left_alone() -> None:
    part = approximate(of(torch.linalg.solve), {"solve": Neumann()}, example_inputs=matrix())
    whole = of(lambda M, b: part(M, b) + part(M, 2 * b) + 1 / (2 + b * b))
    found = approximate(whole, {"reciprocal": NewtonReciprocal(4, 0.5, 12.0)}, example_inputs=matrix())
    assert list(found.approximations) == ["reciprocal_0"]


@pytest.mark.parametrize("calls", [[], [K], [-1], [0, 99]])
def test_calls_that_there_are_not_are_refused(calls: list[int]) -> None:
    with pytest.raises(InputError, match="those that call what is approximated: 0, 1, 2, 3"):
        approximate(Layers("solve"), {"solve": Neumann()}, iterations=calls, example_inputs=inputs())
