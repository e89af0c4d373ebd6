"""Laws of all approximations of A⁻¹b and A⁻¹, checked against NumPy in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from linear_family import FAMILY, LINEAR, Case, N, arguments, dominant, error, every, every_solve, exact, normal
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import unfoldc
from unfoldc.errors import InputError
from unfoldc.unfold_train.approximations.base import Approximation
from unfoldc.unfold_train.approximations.chebyshev import Chebyshev
from unfoldc.unfold_train.approximations.conjugate_gradient import ConjugateGradient
from unfoldc.unfold_train.approximations.gauss_seidel import GaussSeidel
from unfoldc.unfold_train.approximations.jacobi import Jacobi
from unfoldc.unfold_train.approximations.neumann import Neumann
from unfoldc.unfold_train.approximations.newton_schulz import NewtonSchulz


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


# An export takes seconds: the others in the long suite.
_QUICK = (Neumann, GaussSeidel, NewtonSchulz)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=str(case), marks=[] if case.kind in _QUICK else pytest.mark.slow)
        for case in {case.kind: case for case in reversed(FAMILY)}.values()
    ],
)
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
