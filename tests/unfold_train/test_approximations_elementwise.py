"""Polynomials and Newton steps in the place of exp, log, tanh, sigmoid, sqrt and reciprocal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import unfoldc
from unfoldc.errors import InputError
from unfoldc.runtime import Status
from unfoldc.unfold_train import Hyper, Input, Loss, Problems, Settings, Solver, Trainer, View, approximate, unfold
from unfoldc.unfold_train.approximations import APPROXIMATIONS
from unfoldc.unfold_train.approximations.exp import PolynomialExp
from unfoldc.unfold_train.approximations.log import PolynomialLog
from unfoldc.unfold_train.approximations.polynomial import Elementwise
from unfoldc.unfold_train.approximations.reciprocal import NewtonReciprocal
from unfoldc.unfold_train.approximations.sigmoid import PolynomialSigmoid
from unfoldc.unfold_train.approximations.sqrt import NewtonSqrt
from unfoldc.unfold_train.approximations.tanh import PolynomialTanh
from unfoldc.unfold_train.exact import ELEMENTWISE
from unfoldc.unfold_train.multiply_adds import count_multiply_adds

CASES: dict[str, tuple[type[Elementwise], dict[str, Any]]] = {
    "exp": (PolynomialExp, {}),
    "exp, squared": (PolynomialExp, {"degree": 4, "low": -6.0, "high": 3.0, "squarings": 4}),
    "exp, line": (PolynomialExp, {"degree": 1, "low": 0.0, "high": 0.5}),
    "log": (PolynomialLog, {}),
    "log, wide": (PolynomialLog, {"degree": 10, "low": 0.1, "high": 4.0}),
    "tanh": (PolynomialTanh, {}),
    "tanh, line": (PolynomialTanh, {"degree": 1, "high": 0.5}),
    "sigmoid": (PolynomialSigmoid, {}),
    "sigmoid, cubic": (PolynomialSigmoid, {"degree": 3, "high": 4.0}),
    "sqrt": (NewtonSqrt, {}),
    "sqrt, wide": (NewtonSqrt, {"steps": 3, "low": 0.01, "high": 1.0, "guess": 3}),
    "reciprocal": (NewtonReciprocal, {}),
    "reciprocal, wide": (NewtonReciprocal, {"steps": 4, "low": 0.1, "high": 10.0, "guess": 2}),
}
EACH = pytest.mark.parametrize("name", CASES)
COMPILED = ("exp", "sigmoid", "reciprocal")  # at each run of the tests: a polynomial, a clamped one, Newton steps
ONE_OF_EACH = pytest.mark.parametrize("name", [n for n in CASES if "," not in n])


def make(name: str, **more: Any) -> Elementwise:
    kind, options = CASES[name]
    return kind(**{**options, **more})


def arguments(a: Elementwise, count: int = 50_000, seed: int = 11) -> Tensor:
    """Fresh numbers, evenly spread over the range."""
    drawn = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a.low + (a.high - a.low) * drawn


def errors(a: Elementwise, x: Tensor) -> Tensor:
    """Absolute errors against PyTorch's own function in float64."""
    return (a(None, x).double() - ELEMENTWISE[a.operations[0]](x.double())).abs().detach()


@EACH
@pytest.mark.parametrize("learn", ["none", "scalar"])
def test_the_stated_error_is_the_largest_error(name: str, learn: str) -> None:
    a = make(name, learn=learn)
    x = arguments(a)
    a.prepare(x)
    found = float(errors(a, torch.cat([x, torch.tensor([a.low, a.high], dtype=x.dtype)])).max())
    assert found <= a.error + 1e-14
    assert found >= 0.99 * a.error
    single = float(errors(make(name), x.float()).max())
    size = float(ELEMENTWISE[a.operations[0]](x).abs().max())
    assert single <= a.error + 2e-5 * size


@pytest.mark.parametrize("name", ["exp", "exp, line", "log", "log, wide", "tanh", "sigmoid", "sigmoid, cubic"])
def test_no_polynomial_of_the_degree_is_better(name: str) -> None:
    """Chebyshev's theorem: the best one has as many extrema of one size and changing signs as coefficients, and one."""
    a = make(name)
    odd = isinstance(a, PolynomialTanh | PolynomialSigmoid)
    x = torch.linspace(0.0 if odd else a.low, a.high, 50_001, dtype=torch.float64)
    e = a(None, x) - ELEMENTWISE[a.operations[0]](x)
    signs = e[e.abs() > 0.99 * e.abs().max()].sign()
    alternations = 1 + int((signs[1:] != signs[:-1]).sum())
    assert alternations >= ((a.options["degree"] + 1) // 2 if odd else a.options["degree"] + 1) + 1


@EACH
def test_learned_factors_begin_where_the_fixed_polynomial_is(name: str) -> None:
    fixed, learned = make(name), make(name, learn="scalar")
    x = arguments(fixed, 1000)
    with pytest.raises(InputError, match="called before it knows its type; allowed: approximations that approximate"):
        learned(None, x)
    learned.prepare(x)
    torch.testing.assert_close(learned(None, x), fixed(None, x), rtol=1e-11, atol=1e-12)
    assert learned.error == pytest.approx(fixed.error, rel=1e-6)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "sigmoid, cubic"])
def test_symmetry_is_exact(name: str) -> None:
    a = make(name)
    x = arguments(a, 1000)
    offset = 0.5 if "sigmoid" in name else 0.0
    assert torch.equal(a(None, x) - offset, -(a(None, -x) - offset)) or name != "tanh"
    torch.testing.assert_close(a(None, x) + a(None, -x), torch.full_like(x, 2 * offset), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_clamped_the_stated_error_holds_for_all_numbers(name: str) -> None:
    a = make(name, outside="clamp")
    assert a.range == (-np.inf, np.inf)
    x = torch.linspace(-100, 100, 100_001, dtype=torch.float64)
    found = float(errors(a, x).max())
    assert 0.99 * a.error <= found <= a.error + 1e-14


@EACH
def test_outside_of_the_range_it_says_so(name: str) -> None:
    a = make(name)
    width = a.high - a.low
    x = torch.tensor([[a.low, a.high], [a.high + 0.1 * width, a.low - 0.5 * width]], dtype=torch.float64)
    message = f"{a!r}: 2 of 4 arguments are out of range, the farthest is {a.low - 0.5 * width:g}; "
    with pytest.raises(InputError, match=re.escape(f"{message}allowed: {a.low:g} to {a.high:g}")):
        a(None, x)
    condition = a.convergence(x)
    assert condition is not None and condition.broken == 0.5 and condition.number == pytest.approx(2.0)
    inside = a.convergence(arguments(a))
    assert inside is not None and inside.holds and inside.number <= 1
    assert bool(a(None, torch.tensor([torch.nan, a.high], dtype=x.dtype)).isnan().equal(torch.tensor([True, False])))


@EACH
def test_clamped_it_stays_at_the_ends_and_its_gradient_is_finite(name: str) -> None:
    a = make(name, outside="clamp", learn="scalar")
    x = torch.tensor([a.low - 1e6, a.low - 1.0, a.low, a.high, a.high + 1.0, a.high + 1e6], dtype=torch.float64)
    a.prepare(x)
    x.requires_grad_()
    y = a(None, x)
    assert torch.equal(y[:3], y[2].expand(3)) and torch.equal(y[3:], y[3].expand(3))
    assert a.convergence(x) is None
    y.sum().backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())
    assert torch.equal(x.grad[[0, 1, 4, 5]], torch.zeros(4, dtype=x.dtype))
    factors = torch.stack([p.grad for p in a.parameters() if p.grad is not None])
    assert len(factors) == len(list(a.parameters())) and bool(torch.isfinite(factors).all())


@EACH
def test_gradients_are_those_of_the_approximation(name: str) -> None:
    a = make(name, learn="scalar")
    x = arguments(a, 20).clamp(a.low + 1e-3, a.high - 1e-3).requires_grad_()
    a.prepare(x)
    assert torch.autograd.gradcheck(lambda x: a(None, x), (x,), atol=1e-4, rtol=1e-4)
    a(None, x).square().sum().backward()
    gradients = [float(p.grad) for p in a.parameters() if p.grad is not None]
    assert len({round(g / max(map(abs, gradients)), 9) for g in gradients}) == len(gradients)  # they separate


@ONE_OF_EACH
def test_learned_factors_train(name: str) -> None:
    """On arguments from one third of the range a trained polynomial is better there than the best one for all of it."""
    a = make(name, learn="scalar")
    x = a.low + (arguments(a, 2000) - a.low) / 3
    a.prepare(x)
    wanted = ELEMENTWISE[a.operations[0]](x)
    before = float((a(None, x) - wanted).detach().square().mean())
    optimiser = torch.optim.LBFGS(a.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = (a(None, x) - wanted).square().mean() / before
        loss.backward()
        return loss

    optimiser.step(closure)
    assert float((a(None, x) - wanted).detach().square().mean()) < 0.5 * before


class Once(Solver):
    """x = f(y)."""

    y = Input("n")

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation

    def init(self, v: View) -> Tensor:
        return v.y

    def step(self, v: View, state: Tensor) -> Tensor:
        answer: Tensor = getattr(v, self.operation)(state)
        return answer

    def output(self, v: View, state: Tensor) -> Tensor:
        return state


@EACH
@pytest.mark.parametrize("learn", ["none", "scalar"])
def test_the_stated_cost_is_what_runs(name: str, learn: str) -> None:
    a = make(name, learn=learn)
    x = arguments(a, 12).reshape(1, 12)
    network = approximate(unfold(Once(a.operations[0]), iterations=1, example={"y": x}), {a.operations[0]: a})
    scalars = len(network.learned_parts)  # each factor times its start, once for all numbers
    assert count_multiply_adds(network, {"y": x}).iterations == (a.multiply_adds(x) + scalars,)
    assert a.multiply_adds(x) == a.multiply_adds(x.expand(7, 12))


@EACH
def test_its_options_make_an_equal_one(name: str) -> None:
    a = make(name, outside="clamp", learn="scalar")
    again = APPROXIMATIONS[type(a).__name__](**a.options)
    assert repr(again) == repr(a) and isinstance(again, Elementwise) and again.error == a.error
    assert not list(a.parameters())  # made by prepare alone
    x = arguments(a, 100)
    again.prepare(x)
    torch.testing.assert_close(again(None, x).detach(), make(name)(None, x), rtol=1e-11, atol=1e-12)


def test_every_elementwise_operation_has_an_approximation() -> None:
    found = {op for kind in APPROXIMATIONS.values() if issubclass(kind, Elementwise) for op in kind.operations}
    assert found == set(ELEMENTWISE) == {make(name).operations[0] for name in CASES}


BAD = [
    (PolynomialExp, {"degree": 0}, "PolynomialExp(degree=...): 0; allowed: 1 to 32"),
    (PolynomialExp, {"low": 2.0, "high": 2.0}, "two finite numbers, low < high"),
    (PolynomialExp, {"high": float("inf")}, "two finite numbers, low < high"),
    (PolynomialExp, {"high": 100.0}, "allowed: -80 to 80"),
    (PolynomialExp, {"squarings": -1}, "PolynomialExp(squarings=...): -1; allowed: 0 to 10"),
    (PolynomialExp, {"outside": "wrap"}, "PolynomialExp(outside=...): 'wrap'; allowed: nan, clamp"),
    (PolynomialExp, {"learn": "matrix"}, "PolynomialExp(learn=...): 'matrix'; allowed: none, scalar"),
    (PolynomialLog, {"low": 0.0}, "PolynomialLog(low=...): 0.0; allowed: a number above zero"),
    (PolynomialTanh, {"degree": 4}, "PolynomialTanh(degree=...): 4; allowed: an odd number"),
    (PolynomialSigmoid, {"high": -1.0}, "PolynomialSigmoid(high=...): -1.0; allowed: a number above zero"),
    (NewtonSqrt, {"steps": 0}, "NewtonSqrt(steps=...): 0; allowed: 1 to 16"),
    (NewtonSqrt, {"low": 1e-4, "high": 1.0}, "a relative error of the first guess below 0.56"),
    (NewtonReciprocal, {"low": -1.0}, "NewtonReciprocal(low=...): -1.0; allowed: a number above zero"),
    (NewtonReciprocal, {"guess": 0}, "NewtonReciprocal(guess=...): 0; allowed: a degree from 1 to 16"),
]


@pytest.mark.parametrize(("kind", "options", "message"), BAD)
def test_options_that_do_not_fit_are_refused(kind: type[Elementwise], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        kind(**options)


class Repeated(nn.Module):
    """Three iterations of `Step`."""

    def __init__(self, a: Elementwise) -> None:
        super().__init__()
        self.iteration = nn.ModuleList(Step(a, 0.05 * (k + 1)) for k in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for step in self.iteration:
            x = step(x)
        return x


class Step(nn.Module):
    """x ← x + c (f(x) - f(middle)) with a small c of its own, so that the next argument is near the last."""

    def __init__(self, a: Elementwise, scale: float) -> None:
        super().__init__()
        self.approximation = type(a)(**a.options)
        slope = float(ELEMENTWISE[a.operations[0]](torch.tensor([a.low, a.high])).diff().abs())
        self.weight = nn.Parameter(torch.tensor(scale * (a.high - a.low) / slope))
        self.middle = (a.low + a.high) / 2

    def forward(self, x: Tensor) -> Tensor:
        f = self.approximation
        change = self.weight * (f(None, x) - f(None, torch.full_like(x[:, :1], self.middle)))
        return x + change


def export(module: nn.Module, x: Tensor, path: Path) -> None:
    """float32 by torch's exporter alone; it rounds constants to float32, which `export_onnx` puts right in float64."""
    if x.dtype == torch.float64:
        unfoldc.export_onnx(module, x, path)
        return
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(module, (x,), dynamo=True, optimize=False, verbose=False, dynamic_shapes=shapes)
    assert program is not None
    program.save(str(path))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in COMPILED else pytest.mark.slow) for n in CASES if "," not in n],
)
@pytest.mark.parametrize(
    ("dtype", "learn"),
    [(torch.float32, "none"), pytest.param(torch.float64, "scalar", marks=pytest.mark.slow)],
)
def test_exported_and_compiled_it_answers_the_same(name: str, dtype: torch.dtype, learn: str, tmp_path: Path) -> None:
    a = make(name, learn=learn)
    module = Repeated(a).to(dtype)
    half = (a.high - a.low) / 2
    x = ((a.low + a.high) / 2 + 0.5 * half * (2 * torch.rand(5, 4, generator=torch.Generator().manual_seed(3)) - 1)).to(
        dtype
    )
    for step in module.iteration:
        assert isinstance(step, Step)
        step.approximation.prepare(x)
        with torch.no_grad():
            for k, p in enumerate(step.approximation.parameters()):
                p.mul_(1 + 1e-3 * (k + 1))
    wanted = module(x).detach().numpy()
    path = tmp_path / "model.onnx"
    export(module, x, path)
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert not operators & {"Exp", "Log", "Tanh", "Sigmoid", "Sqrt", "Reciprocal", "Div", "Pow"}
    tolerance = 2e-5 if dtype == torch.float32 else 1e-12
    size = float(np.abs(wanted).max())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [found] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * size)

    solver = unfoldc.compile(path, backend="c", cache=False)
    assert solver.iterations == 3
    result = solver.run({solver.inputs[0].name: x.numpy()})
    assert result.status is Status.COMPLETE
    np.testing.assert_allclose(next(iter(result.outputs.values())), wanted, rtol=0, atol=tolerance * size)

    far = x.numpy().copy()
    far[2, 1] = a.high + 3 * half
    result = solver.run({solver.inputs[0].name: far})
    assert result.status is Status.NOT_FINITE
    answer = next(iter(result.outputs.values()))
    assert np.isnan(answer[2, 1]) and np.isfinite(np.delete(answer, 2, axis=0)).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])
def test_clamping_exports(dtype: torch.dtype, tmp_path: Path) -> None:
    module = Repeated(make("tanh", outside="clamp")).to(dtype)
    x = torch.linspace(-9, 9, 20, dtype=dtype).reshape(5, 4)
    wanted = module(x).detach().numpy()
    export(module, x, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    [found] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    solver = unfoldc.compile(tmp_path / "model.onnx", backend="c", cache=False)
    result = solver.run({solver.inputs[0].name: x.numpy()})
    assert result.status is Status.COMPLETE
    np.testing.assert_allclose(next(iter(result.outputs.values())), wanted, rtol=0, atol=1e-5)


class Softmin(Solver):
    """x ← x - mu (sigmoid(x) - y): finds the logit of y."""

    y = Input("n")
    mu = Hyper(lambda v: v.number(2.0), positive=True)

    def init(self, v: View) -> Tensor:
        return torch.zeros_like(v.y)

    def step(self, v: View, state: Tensor) -> Tensor:
        return state - v.mu * (v.sigmoid(state) - v.y)

    def output(self, v: View, state: Tensor) -> Tensor:
        return state


def test_in_a_solver_training_makes_up_for_the_polynomial() -> None:
    y = 0.15 + 0.7 * torch.rand(400, 3, generator=torch.Generator().manual_seed(5))
    truth = torch.logit(y)
    problems, fresh = Problems({"y": y[:300]}, truth[:300]), Problems({"y": y[300:]}, truth[300:])
    network = unfold(Softmin(), iterations=4, learn=["mu"], example={"y": y[:2]})
    cheap = approximate(network, {"sigmoid": PolynomialSigmoid(degree=3, high=5.0, learn="scalar")})
    assert cheap.learned_parts == ("sigmoid.series.factors.0", "sigmoid.series.factors.1")
    before = Loss().errors(cheap, fresh)[-1]
    Trainer(cheap, problems, settings=Settings(steps=150, batch=100, validate_every=50), progress=False).run()
    assert Loss().errors(cheap, fresh)[-1] < 0.3 * before
    with pytest.raises(InputError, match=re.escape("arguments are out of range, the farthest is")):
        cheap(torch.full((1, 3), 90.0))
