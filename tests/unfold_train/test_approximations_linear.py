"""Laws of all approximations of A⁻¹b and A⁻¹, checked against NumPy in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import unfoldc
from unfoldc.errors import InputError
from unfoldc.unfold_train.approximations.base import Approximation
from unfoldc.unfold_train.approximations.chebyshev import Chebyshev
from unfoldc.unfold_train.approximations.conditions import CANDIDATES, that_hold
from unfoldc.unfold_train.approximations.conjugate_gradient import ConjugateGradient
from unfoldc.unfold_train.approximations.gauss_seidel import GaussSeidel
from unfoldc.unfold_train.approximations.jacobi import Jacobi
from unfoldc.unfold_train.approximations.neumann import Neumann
from unfoldc.unfold_train.approximations.newton_schulz import NewtonSchulz

N = 9


@dataclass(frozen=True)
class Case:
    """A member of the family: its class, the name of its number of steps, and other options."""

    kind: type[Approximation]
    steps: str
    options: dict[str, Any]

    def make(self, steps: int, **options: Any) -> Approximation:
        return self.kind(**{self.steps: steps, **self.options, **options})

    def __str__(self) -> str:
        return "-".join([self.kind.__name__, *(f"{k}={v}" for k, v in self.options.items())])


FAMILY = [
    Case(Neumann, "order", {"start": "diagonal"}),
    Case(Neumann, "order", {"start": "norm"}),
    Case(Neumann, "order", {"start": "identity"}),
    Case(Jacobi, "sweeps", {}),
    Case(Jacobi, "sweeps", {"damping": 0.7}),
    Case(GaussSeidel, "sweeps", {}),
    Case(GaussSeidel, "sweeps", {"start": "zero"}),
    Case(GaussSeidel, "sweeps", {"relaxation": 1.1, "start": "norm"}),
    Case(ConjugateGradient, "steps", {}),
    Case(ConjugateGradient, "steps", {"start": "diagonal"}),
    Case(Chebyshev, "order", {}),
    Case(Chebyshev, "order", {"lower": 0.5, "upper": 1.5}),
    Case(NewtonSchulz, "steps", {}),
    Case(NewtonSchulz, "steps", {"start": "diagonal"}),
]
SOLVES = [case for case in FAMILY if "solve" in case.kind.operations]
LINEAR = [case for case in SOLVES if case.kind is not ConjugateGradient]
every = pytest.mark.parametrize("case", FAMILY, ids=str)
every_solve = pytest.mark.parametrize("case", SOLVES, ids=str)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dominant(seed: int, *batch: int, n: int = N, dominance: float = 4.0) -> Tensor:
    """Symmetric, positive definite, diagonally dominant, eigenvalues around 1."""
    S = normal(seed, *batch, n, n)
    S = S + S.mT
    S = S - torch.diag_embed(S.diagonal(dim1=-2, dim2=-1))
    spread = 1 + 0.1 * torch.tanh(normal(seed + 1, *batch, n))
    return torch.diag_embed(spread) + S / (dominance * S.abs().sum(-1).amax(-1)[..., None, None])


def arguments(case: Case, A: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    return (A, b) if "solve" in case.kind.operations else (A,)


def exact(*given: Tensor) -> Tensor:
    A = given[0].double().numpy()
    b = given[1].double().numpy() if len(given) == 2 else np.broadcast_to(np.eye(A.shape[-1]), A.shape)
    return torch.from_numpy(np.linalg.solve(A, b))


def error(found: Any, truth: Tensor) -> float:
    return float((found.detach().double() - truth).norm() / truth.norm())


@every
@pytest.mark.parametrize("warm", [False, True])
def test_more_steps_come_closer_and_at_last_reach_numpy(case: Case, warm: bool) -> None:
    given = arguments(case, dominant(1, 3), normal(2, 3, N, 2))
    truth = exact(*given)
    condition = case.make(1).convergence(*given)
    assert condition is not None and condition.holds
    previous = 0.9 * truth if warm else None
    errors = [error(case.make(p, warm_start=warm)(previous, *given), truth) for p in (2, 6, 16, 64)]
    for before, after in zip(errors, errors[1:], strict=False):
        assert after < before or before < 1e-13
    assert errors[-1] < 1e-10 and errors[0] > 1e-6


def between(case: Case, goal: float) -> Tensor:
    """A matrix whose number of the condition is `goal`: D + t · (A - D) with the t that bisection finds."""
    A = dominant(31)
    D = torch.diag(A.diagonal())
    low, high = 1.0, 16.0
    for _ in range(60):
        middle = (low + high) / 2
        condition = case.make(1).convergence(D + middle * (A - D))
        assert condition is not None
        low, high = (middle, high) if condition.number < goal else (low, middle)
    return D + low * (A - D)


SPLITTINGS = [case for case in LINEAR if case.kind is not Chebyshev or case.options]


@pytest.mark.parametrize("case", SPLITTINGS, ids=str)
def test_the_number_separates_convergence_from_divergence(case: Case) -> None:
    b = normal(32, N, 1)
    sweeps = case.make(8, warm_start=True)
    ratios = {}
    for number in (0.95, 1.05):
        A = between(case, number)
        condition = sweeps.convergence(A, b)
        assert condition is not None and condition.number == pytest.approx(number, abs=1e-6)
        assert condition.holds == (number < 1)
        truth = exact(A, b)
        x = truth + normal(33, N, 1)
        first = error(x, truth)
        for _ in range(30):
            x = sweeps(x, A, b)
        ratios[number] = error(x, truth) / first
    assert ratios[0.95] < 1e-3 and ratios[1.05] > 1e3


def test_newton_schulz_squares_the_number_with_every_step() -> None:
    case = Case(NewtonSchulz, "steps", {"start": "diagonal"})
    for number in (0.95, 1.05):
        A = between(case, number)
        residual = torch.eye(N, dtype=torch.float64) - A @ case.make(6)(None, A)
        radius = np.abs(np.linalg.eigvals(residual.numpy())).max()
        assert radius == pytest.approx(number**64, rel=1e-4)


def test_newton_schulz_transposed_converges_for_every_regular_matrix_and_the_number_says_so() -> None:
    A = normal(41, 5, N, N)
    approximation = NewtonSchulz(steps=48)
    condition = approximation.convergence(A)
    assert condition.holds and condition.number > 0.9
    assert error(approximation(None, A), exact(A)) < 1e-10
    singular = torch.cat([A[..., :1], A[..., :1], A[..., 2:]], -1)
    assert not approximation.convergence(singular.float()).number < 1 - 1e-6


def test_conjugate_gradient_demands_symmetric_positive_definite_matrices() -> None:
    eigenvalues = np.array([-1e-6, 0.5, 1.0, 2.0])
    Q = np.linalg.qr(normal(42, 4, 4).numpy())[0]
    indefinite = torch.from_numpy(Q @ np.diag(eigenvalues) @ Q.T)
    indefinite = (indefinite + indefinite.T) / 2
    definite = indefinite + 2e-6 * torch.eye(4, dtype=torch.float64)
    lopsided = definite + 0.01 * torch.ones(4, 4, dtype=torch.float64).triu(1)
    condition = ConjugateGradient().convergence(torch.stack([indefinite, definite, definite, definite]))
    assert condition.number == pytest.approx(1e-6, rel=1e-4) and condition.broken == 0.25 and condition.limit == 0
    assert ConjugateGradient().convergence(definite).holds
    assert ConjugateGradient().convergence(definite.float()).broken in (0.0, 1.0)
    assert ConjugateGradient().convergence(lopsided).number == float("inf")


@every
def test_nan_breaks_every_condition(case: Case) -> None:
    A = dominant(3, 2)
    A[1, 2, 3] = torch.nan
    condition = case.make(1).convergence(*arguments(case, A, normal(4, 2, N, 1)))
    assert condition is not None and condition.broken == 0.5 and condition.number == float("inf")


@every
def test_an_exact_previous_answer_stays_exact(case: Case) -> None:
    given = arguments(case, dominant(5, 4), normal(6, 4, N, 2))
    truth = exact(*given)
    for steps in (1, 3, 30):
        assert error(case.make(steps, warm_start=True)(truth, *given), truth) < 1e-14


@every
def test_begin_gives_what_a_warm_start_then_improves(case: Case) -> None:
    given = arguments(case, dominant(7, 4, dominance=1.5), normal(8, 4, N, 2))
    truth = exact(*given)
    more = {"first_steps": 2} if case.kind is NewtonSchulz else {}
    approximation = case.make(2, warm_start=True, **more)
    assert approximation.uses_previous
    start = approximation.start(*given)
    assert error(start, truth) == pytest.approx(error(case.make(2)(None, *given), truth), rel=1e-9)
    assert error(approximation(start, *given), truth) < error(start, truth)


@pytest.mark.parametrize("case", LINEAR, ids=str)
def test_solve_is_the_inverse_times_b(case: Case) -> None:
    A, b = dominant(9, 4), normal(10, 4, N, 3)
    for steps in (1, 2, 5):
        approximation = case.make(steps)
        assert error(approximation(None, A) @ b, approximation(None, A, b)) < 1e-13
        warm = case.make(steps, warm_start=True)
        X = normal(11, 4, N, N)
        assert error(warm(X, A) @ b, warm(X @ b, A, b)) < 1e-13


def test_conjugate_gradient_treats_each_right_hand_side_by_itself() -> None:
    A, b = dominant(9, 4), normal(10, 4, N, 3)
    together = ConjugateGradient(steps=3)(None, A, b)
    for i in range(3):
        assert error(ConjugateGradient(steps=3)(None, A, b[..., i : i + 1]), together[..., i : i + 1]) < 1e-13


def test_jacobi_is_what_its_sweeps_give() -> None:
    A, b = dominant(12, 2), normal(13, 2, N, 1)
    d = 0.6 / A.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
    x = d * b
    for _ in range(4):
        x = x + d * (b - A @ x)
    assert error(Jacobi(sweeps=4, damping=0.6)(None, A, b), x) < 1e-14
    assert error(Neumann(order=4)(None, A, b), Jacobi(sweeps=4)(None, A, b)) == 0


def test_gauss_seidel_is_what_its_loop_over_the_unknowns_gives() -> None:
    A, b = dominant(14).numpy(), normal(15, N, 1).numpy()
    for relaxation in (1.0, 1.3):
        x = np.zeros((N, 1))
        for _ in range(3):
            for i in range(N):
                rest = b[i] - A[i] @ x + A[i, i] * x[i]
                x[i] = (1 - relaxation) * x[i] + relaxation * rest / A[i, i]
        found = GaussSeidel(sweeps=3, start="zero", relaxation=relaxation)(
            None, torch.from_numpy(A), torch.from_numpy(b)
        )
        assert error(found, torch.from_numpy(x)) < 1e-14


def test_chebyshev_is_what_its_three_term_iteration_gives() -> None:
    lower, upper = 0.4, 1.7
    A, b = dominant(16, 2), normal(17, 2, N, 1)
    center, half = (upper + lower) / 2, (upper - lower) / 2
    x, p, alpha = torch.zeros_like(b), b, 1 / center
    for i in range(6):
        r = b - A @ x
        beta = 0.0 if i == 0 else (0.5 if i == 1 else 0.25) * (half * alpha) ** 2
        alpha = 1 / (center - (beta / alpha if i else 0.0))
        p = r + beta * p if i else r
        x = x + alpha * p
    assert error(Chebyshev(order=5, lower=lower, upper=upper)(None, A, b), x) < 1e-13


def test_chebyshev_bounds_the_eigenvalues_and_stands_a_multiple_of_the_identity() -> None:
    A = dominant(18, 6)
    lower, upper = Chebyshev().interval(A)
    eigenvalues = torch.linalg.eigvalsh(A)
    assert bool((lower[..., 0] <= eigenvalues).all()) and bool((eigenvalues <= upper[..., 0]).all())
    multiple = 3 * torch.eye(4, dtype=torch.float64)
    assert error(Chebyshev(order=1)(None, multiple, normal(19, 4, 1)), exact(multiple, normal(19, 4, 1))) < 1e-15


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("warm", [False, True])
def test_conjugate_gradient_keeps_an_exact_hit(dtype: torch.dtype, warm: bool) -> None:
    A = (2 * torch.eye(4, dtype=dtype)).requires_grad_()
    b = normal(20, 5, 4, 2).to(dtype)
    b[1] = 0
    found = ConjugateGradient(steps=40, warm_start=warm)(b / 2 if warm else None, A, b)
    assert torch.equal(found, b / 2)
    found.square().sum().backward()
    assert A.grad is not None and bool(torch.isfinite(A.grad).all())
    general = dominant(21, 3).to(dtype)
    late = ConjugateGradient(steps=64)(None, general, b.new_ones(3, N, 1))
    assert error(late, exact(general, b.new_ones(3, N, 1))) < 20 * torch.finfo(dtype).eps


@every
@pytest.mark.parametrize("learn", ["none", "scalar", "diagonal", "matrix"])
def test_learned_parts_start_at_the_classical_method(case: Case, learn: str) -> None:
    if case.kind is GaussSeidel and learn == "matrix":
        return
    given = arguments(case, dominant(22, 4), normal(23, 4, N, 2))
    approximation = case.make(3, learn=learn)
    approximation.prepare(*given)
    assert error(approximation(None, *given), case.make(3)(None, *given)) < 1e-14
    shapes = {"none": set(), "scalar": {(1, 1)}, "diagonal": {(N, 1)}, "matrix": {(N, N)}}
    assert {tuple(p.shape) for p in approximation.parameters()} == shapes[learn]
    assert {p.dtype for p in approximation.parameters()} <= {torch.float64}
    found = approximation(None, *given)
    if learn != "none":
        found.square().sum().backward()
        assert all(p.grad is not None and bool((p.grad != 0).any()) for p in approximation.parameters())
        smaller = [a[..., : N - 1, : N - 1] if i == 0 else a[..., : N - 1, :] for i, a in enumerate(given)]
        if learn != "scalar":
            with pytest.raises(InputError, match=f"called with .{N - 1}"):
                approximation(None, *smaller)
        with pytest.raises(InputError, match="before it knows its size"):
            case.make(3, learn=learn)(None, *given)


@every
def test_equal_starts_get_different_gradients(case: Case) -> None:
    given = arguments(case, dominant(24, 40, dominance=1.2), normal(25, 40, N, 1))
    truth = exact(*given)
    approximation = case.make(3, learn="scalar")
    approximation.prepare(*given)
    (approximation(None, *given) - truth).square().sum().backward()
    gradients = sorted(float(p.grad) for p in approximation.parameters() if p.grad is not None)
    largest = max(abs(g) for g in gradients)
    assert len(gradients) >= 3
    assert min(b - a for a, b in zip(gradients, gradients[1:], strict=False)) > 1e-6 * largest > 0


def one_factor_per_step(
    inverse: Callable[[Tensor, Tensor], Tensor], factors: list[Tensor], A: Tensor, b: Tensor
) -> Tensor:
    """x ← x + cᵢ M⁻¹(b - A x) from zero: the form whose equal starts have equal gradients."""
    x = torch.zeros_like(b)
    for c in factors:
        x = x + c * inverse(A, b - A @ x)
    return x


def diagonal_inverse(A: Tensor, r: Tensor) -> Tensor:
    return r / A.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)


def triangular_inverse(A: Tensor, r: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(A.tril(), r, upper=False)


@pytest.mark.parametrize("inverse", [diagonal_inverse, triangular_inverse])
def test_factors_of_whole_steps_would_have_equal_gradients(inverse: Callable[[Tensor, Tensor], Tensor]) -> None:
    A, b = dominant(24, 40, dominance=1.2), normal(25, 40, N, 1)
    factors = [torch.ones(1, 1, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    found = one_factor_per_step(inverse, factors, A, b)
    classical = Jacobi(sweeps=3) if inverse is diagonal_inverse else GaussSeidel(sweeps=4, start="zero")
    assert error(found, classical(None, A, b)) < 1e-13
    (found - exact(A, b)).square().sum().backward()
    gradients = [float(c.grad) for c in factors if c.grad is not None]
    assert len(gradients) == 4 and gradients == pytest.approx([gradients[0]] * 4, rel=1e-10) and gradients[0] != 0


def channels(seed: int, count: int, antennas: int = 64, users: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """A, b and the symbols: A⁻¹b is their linear estimate of least error."""
    H = normal(seed, count, antennas, users) / antennas**0.5
    symbols = normal(seed + 1, count, users, 1).sign()
    received = H @ symbols + 0.1 * normal(seed + 2, count, antennas, 1)
    return H.mT @ H + 0.01 * torch.eye(users, dtype=torch.float64), H.mT @ received, symbols


def fit(model: Callable[[], Tensor], truth: Tensor, parameters: list[Any], steps: int = 300) -> None:
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        (model() - truth).square().mean().backward()
        optimizer.step()


def test_training_separates_the_coefficients_and_closes_more_of_the_gap() -> None:
    A, b, symbols = channels(51, 300)
    fresh_A, fresh_b, fresh = channels(61, 1000)
    approximation = Neumann(order=2, learn="scalar")
    approximation.prepare(A, b)
    untrained = error(approximation(None, fresh_A, fresh_b), fresh) ** 2
    best = error(exact(fresh_A, fresh_b), fresh) ** 2
    coefficients = list(approximation.parameters())
    factors = [torch.ones(1, 1, dtype=torch.float64, requires_grad=True) for _ in coefficients]
    fit(lambda: approximation(None, A, b), symbols, coefficients)
    fit(lambda: one_factor_per_step(diagonal_inverse, factors, A, b), symbols, list(factors))

    def closed(answer: Tensor) -> float:
        return (untrained - error(answer, fresh) ** 2) / (untrained - best)

    ours = closed(approximation(None, fresh_A, fresh_b))
    theirs = closed(one_factor_per_step(diagonal_inverse, factors, fresh_A, fresh_b))
    learned = [float(c.detach()) for c in coefficients]
    assert max(learned) - min(learned) > 0.2
    stuck = [float(c.detach()) for c in factors]
    assert max(stuck) - min(stuck) < 1e-6 and abs(stuck[0] - 1) > 0.1
    assert ours > 0.82 and theirs < ours - 0.08, (ours, theirs)


@every
def test_leading_axes_are_batch_axes(case: Case) -> None:
    A, b = dominant(26, 2, 3), normal(27, 2, 3, N, 2)
    approximation = case.make(2)
    together = approximation(None, *arguments(case, A, b))
    for i in range(2):
        for j in range(3):
            alone = approximation(None, *arguments(case, A[i, j], b[i, j]))
            assert error(alone, together[i, j]) < 1e-14
    if "solve" in case.kind.operations:
        one_matrix = approximation(None, A[0, 0], b[0])
        assert one_matrix.shape == (3, N, 2)
        assert error(one_matrix[2], approximation(None, A[0, 0], b[0, 2])) < 1e-14


@every
@pytest.mark.parametrize("warm", [False, True])
def test_float32_stays_float32(case: Case, warm: bool) -> None:
    given = tuple(t.float() for t in arguments(case, dominant(28, 2), normal(29, 2, N, 1)))
    approximation = case.make(12, warm_start=warm, learn="scalar")
    approximation.prepare(*given)
    previous = approximation.start(*given) if warm else None
    assert previous is None or isinstance(previous, Tensor)
    found = approximation(previous, *given)
    in_double = case.make(12, warm_start=warm)(
        None if previous is None else previous.double(), *(t.double() for t in given)
    )
    assert found.dtype == torch.float32 and error(found, in_double) < 2e-6


class MultiplyAdds(TorchDispatchMode):
    """Counts those of the products and substitutions that run."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket._qualified_op_name.removeprefix("aten::")
        shapes = [tuple(a.shape) for a in args if isinstance(a, Tensor)]
        if name in ("mm", "bmm"):
            self.count += int(np.prod(shapes[0])) * shapes[1][-1]
        elif name == "linalg_solve_triangular":
            n = shapes[0][-1]
            self.count += n * (n + 1) // 2 * shapes[1][-1]
        else:
            assert not any(part in name for part in ("addmm", "addbmm", "baddbmm", "mv", "dot", "einsum", "inv")), name
        return func(*args, **(kwargs or {}))


@every
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("learn", ["none", "matrix"])
@pytest.mark.parametrize("m", [None, 1, 3])
def test_multiply_adds_are_those_of_the_products_that_run(case: Case, warm: bool, learn: str, m: int | None) -> None:
    if (m is not None and "solve" not in case.kind.operations) or (case.kind is GaussSeidel and learn == "matrix"):
        return
    given = (dominant(30),) if m is None else (dominant(30), normal(31, N, m))
    batched = tuple(t.expand(5, *t.shape) for t in given)
    approximation = case.make(3, warm_start=warm, learn=learn)
    approximation.prepare(*given)
    with MultiplyAdds() as start:
        previous = approximation.start(*given) if warm else None
    with MultiplyAdds() as later:
        approximation(previous, *given)
    assert approximation.start_multiply_adds(*batched) == start.count
    assert approximation.multiply_adds(*batched) == later.count > 0


@every_solve
def test_a_solve_never_forms_the_inverse(case: Case) -> None:
    A, b = dominant(30), normal(31, N, 1)
    for steps in (1, 4):
        substitutions = steps * N * (N + 1) // 2 if case.kind is GaussSeidel else 0
        products = (case.make(steps).multiply_adds(A, b) - substitutions) / N**2
        extra = case.kind is ConjugateGradient and bool(case.options)
        fewer = case.options.get("start") == "zero"
        assert products == steps + extra - fewer


BAD = [
    (kind, options)
    for kind, steps in {case.kind: case.steps for case in FAMILY}.items()
    for options in ({steps: 0}, {steps: 65}, {steps: 1.5}, {steps: "2"}, {"learn": "all"})
] + [
    (Neumann, {"start": "zero"}),
    (GaussSeidel, {"start": "one"}),
    (ConjugateGradient, {"start": ["zero"]}),
    (NewtonSchulz, {"start": "zero"}),
    (NewtonSchulz, {"first_steps": -1}),
    (Jacobi, {"damping": 0.0}),
    (Jacobi, {"damping": float("nan")}),
    (GaussSeidel, {"relaxation": 2.0}),
    (GaussSeidel, {"learn": "matrix"}),
    (Chebyshev, {"lower": 0.0}),
    (Chebyshev, {"upper": float("inf")}),
    (Chebyshev, {"lower": 2.0, "upper": 1.0}),
    (Chebyshev, {"condition": 1.0}),
]


@pytest.mark.parametrize(("kind", "options"), BAD, ids=str)
def test_bad_options_are_refused(kind: type[Approximation], options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=kind.__name__):
        kind(**options)


@every
def test_options_make_an_equal_one(case: Case) -> None:
    made = case.make(3, warm_start=True, learn="diagonal")
    assert repr(type(made)(**made.options)) == repr(made)
    assert made.options[case.steps] == 3


@every
def test_shapes_that_do_not_fit_are_refused(case: Case) -> None:
    wide, b = normal(1, 2, 4, 5), normal(2, 2, 4, 1)
    with pytest.raises(InputError, match=r"b \(..., n, m\)"):
        case.make(2)(None, *arguments(case, wide, b))
    if "solve" in case.kind.operations:
        with pytest.raises(InputError, match=r"A \(2, 3, 3\), b \(2, 4, 1\)"):
            case.make(2)(None, dominant(1, 2, n=3), b)


def test_conditions_name_what_holds_cheapest_first() -> None:
    A, b = dominant(71, 3), normal(72, 3, N, 1)
    for operation, given in (("solve", (A, b)), ("inverse", (A,))):
        texts = that_hold(operation, given)
        names = {kind.__name__: kind for kind, _ in CANDIDATES}
        found = [eval(text, {}, names) for text in texts]
        assert len(found) == sum(operation in kind.operations for kind, _ in CANDIDATES)
        costs = [a.multiply_adds(*given) for a in found]
        assert costs == sorted(costs)
        assert all(a.convergence(*given).holds for a in found)
    assert that_hold("exp", (b,)) == []
    assert that_hold("solve", (torch.full_like(A, torch.nan), b)) == []


def test_conditions_leave_out_what_does_not_hold() -> None:
    H = normal(73, 20, 12, 10)
    gram = 5 * (H.mT @ H + 0.5 * torch.eye(10, dtype=torch.float64))
    texts = that_hold("solve", (gram, normal(74, 20, 10, 1)))
    assert not any("Jacobi(sweeps=2)" in text or "identity" in text for text in texts)
    assert {"Neumann(order=2, start='norm')", "GaussSeidel(sweeps=2)", "ConjugateGradient(steps=2)"} <= set(texts)
    lopsided = that_hold("inverse", (normal(75, 3, 6, 6),))
    assert "NewtonSchulz(steps=16)" in lopsided and not any("Gradient" in text for text in lopsided)


class Step(nn.Module):
    """One iteration that asks for a warm-started answer, a cold one and, of a solve, the inverse."""

    def __init__(self, cold: Approximation, warm: Approximation) -> None:
        super().__init__()
        self.cold = cold
        self.warm = warm

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        answer: Tensor = self.warm(x, *given) + 0.1 * self.cold(None, *given)
        return answer if len(given) == 1 else answer + 0.1 * self.cold(None, given[0]) @ given[1]


class TwoIterations(nn.Module):
    """A = HᵀH/12 + I/2 and b = Hᵀy, which an approximation solves, or A alone, which it inverts."""

    def __init__(self, cold: Approximation, warm: Approximation) -> None:
        super().__init__()
        self.warm = warm
        self.steps = nn.ModuleList([Step(cold, warm), Step(cold, warm)])

    def forward(self, H: Tensor, y: Tensor) -> Tensor:
        A = H.mT @ H / 12 + 0.5 * torch.eye(H.shape[-1], dtype=H.dtype)
        given = (A, H.mT @ y) if "solve" in self.warm.operations else (A,)
        x = self.warm.start(*given)
        assert isinstance(x, Tensor)
        for step in self.steps:
            x = step(x, *given)
        return x


@pytest.mark.parametrize("case", {case.kind: case for case in reversed(FAMILY)}.values(), ids=str)
def test_an_export_runs_in_onnx_runtime_equal(case: Case, tmp_path: Path) -> None:
    def normals(seed: int, count: int) -> tuple[Tensor, Tensor]:
        return normal(seed, count, 12, 4).float(), normal(seed + 1, count, 12, 1).float()

    cold, warm = case.make(2, learn="diagonal"), case.make(2, warm_start=True, learn="scalar")
    for approximation in (cold, warm):
        approximation.prepare(dominant(1, n=4).float())
        for parameter in approximation.parameters():
            parameter.data *= 0.9
    model = TwoIterations(cold, warm)
    path = tmp_path / "model.onnx"
    unfoldc.export_onnx(model, normals(81, 3), path, check=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    H, y = normals(83, 5)
    values = {"H": H.numpy(), "y": y.numpy()}
    (found,) = session.run(None, {i.name: values[i.name] for i in session.get_inputs()})
    assert error(torch.from_numpy(np.asarray(found)), model(H, y).detach().double()) < 1e-5
