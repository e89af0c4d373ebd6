"""Robust PCA: against NumPy, from mixed factors, with skipped updates and approximated inverses, and compiled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import unfoldc
from unfoldc.errors import InputError
from unfoldc.unfold_train import Input, Loss, Problems, Settings, Trainer, Unfolded, unfold
from unfoldc.unfold_train.approximating import approximate, call_sites
from unfoldc.unfold_train.approximations import Approximation, Diagonal, NewtonSchulz, Skip
from unfoldc.unfold_train.checkpoint import load_checkpoint, save_checkpoint
from unfoldc.unfold_train.data.robust_pca import mix_factors, robust_pca_problems
from unfoldc.unfold_train.solvers.robust_pca import RobustPca, RobustPcaFromFactors

Array = NDArray[np.floating[Any]]
Inverse = Callable[[Array, int, str], Array]
ROWS, COLUMNS, RANK, K = 48, 40, 2, 6


@pytest.fixture(scope="module")
def problems() -> Problems:
    return robust_pca_problems(3, ROWS, COLUMNS, rank=RANK, seed=11)


@pytest.fixture(scope="module")
def factors(problems: Problems) -> tuple[Tensor, Tensor]:
    """Of the truth, disturbed by 1 %, mixed so that the Gram matrices have condition numbers near 100."""
    assert problems.truth is not None
    U, s, Vh = torch.linalg.svd(problems.truth)
    root = s[:, :RANK].sqrt().unsqueeze(-2)
    generator = torch.Generator().manual_seed(12)
    L, R = (
        F * root * (1 + 0.1 * torch.randn(F.shape, generator=generator, dtype=F.dtype))
        for F in (U[..., :RANK], Vh[:, :RANK].mT)
    )
    return mix_factors(L, R, 10.0, seed=13)


def network(zeta_init: float, iterations: int = K) -> Unfolded:
    """Thresholds and step sizes differ from iteration to iteration."""
    example = {"X": torch.zeros(2, ROWS, COLUMNS), "L0": torch.ones(2, ROWS, RANK), "R0": torch.ones(2, COLUMNS, RANK)}
    example["L0"][:, 0, 0] = example["R0"][:, 0, 0] = 2.0  # independent columns
    example = {name: t.double() for name, t in example.items()}
    solver = RobustPcaFromFactors(zeta_init=zeta_init, decay=0.75)
    made = unfold(solver, iterations=iterations, learn=["zeta", "eta"], example=example)
    with torch.no_grad():
        for k, parameter in enumerate(made.learned_parameters("eta")):
            parameter.fill_(0.3 * (-1) ** k)
    return made


def numpy_iterates(
    made: Unfolded,
    given: Mapping[str, Tensor],
    skipped: Collection[tuple[int, str]] = (),
    inverse: Inverse = lambda A, k, site: np.linalg.inv(A),
) -> list[Array]:
    """LRPCA as published, problem by problem, with nothing shared with the solver but the learned numbers."""
    numbers = [(float(made.value("zeta", k)), float(made.value("eta", k))) for k in range(made.iterations)]
    found: list[list[Array]] = [[] for _ in numbers]
    for x, L, R in zip(*(given[name].numpy() for name in ("X", "L0", "R0")), strict=True):
        for k, (zeta, eta) in enumerate(numbers):
            residual = x - L @ R.T
            S = np.sign(residual) * np.maximum(np.abs(residual) - zeta, 0)
            E = residual - S
            new_L = L + eta * E @ R @ inverse(R.T @ R, k, "R")
            new_R = R + eta * E.T @ L @ inverse(L.T @ L, k, "L")
            L, R = L if (k, "L") in skipped else new_L, R if (k, "R") in skipped else new_R
            found[k].append(L @ R.T)
    return [np.stack(f) for f in found]


def error(found: Tensor, right: Tensor | Array) -> float:
    right = torch.as_tensor(right)
    return float(torch.linalg.vector_norm(found.detach() - right) / torch.linalg.vector_norm(right))


def inputs(problems: Problems, factors: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    return {"X": problems.inputs["X"], "L0": factors[0], "R0": factors[1]}


def test_the_problems_are_those_of_the_publication() -> None:
    n, rank = 150, 5
    made = robust_pca_problems(4, n, rank=rank, outliers=0.1, seed=5)
    X, truth = made.inputs["X"], made.truth
    assert truth is not None
    singular = torch.linalg.svdvals(truth)
    assert float(singular[:, rank].max()) < 1e-12 * float(singular[:, rank - 1].min())
    assert float(singular[:, rank - 1].min()) > 0.5 and float(singular[:, 0].max()) < 2
    S = X - truth
    size = truth.abs().mean((-2, -1))
    for outliers, bound in zip(S, size, strict=True):
        assert int((outliers.abs() > 1e-12).sum()) in range(n * n // 10 - 5, n * n // 10 + 1)
        assert 0.95 * bound < outliers.max() <= bound and -bound <= outliers.min() < -0.95 * bound
    single = robust_pca_problems(4, n, rank=rank, seed=5, dtype=torch.float32)
    torch.testing.assert_close(single.inputs["X"], X.float(), rtol=0, atol=0)
    other = robust_pca_problems(4, n, rank=rank, seed=6)
    assert error(other.inputs["X"], X) > 1


def test_mixed_factors_have_the_same_product_and_ill_conditioned_gram_matrices(factors: tuple[Tensor, Tensor]) -> None:
    L, R = factors
    for gram in (L.mT @ L, R.mT @ R):
        assert bool(((torch.linalg.cond(gram) > 30) & (torch.linalg.cond(gram) < 300)).all())
    mixed = mix_factors(L, R, 7.0, seed=1)
    assert error(mixed[0] @ mixed[1].mT, L @ R.mT) < 1e-13
    assert error(mixed[0], L) > 0.1


def test_every_iterate_is_the_published_one(problems: Problems, factors: tuple[Tensor, Tensor]) -> None:
    made = network(float(problems.inputs["X"].abs().mean()))
    given = inputs(problems, factors)
    right = numpy_iterates(made, given)
    iterates = made.iterates(*given.values())
    for found, expected in zip(iterates, right, strict=True):
        assert error(found, expected) < 1e-12
    assert error(iterates[-1], right[-2]) > 1e-5


def test_the_spectral_start_is_the_best_low_rank_matrix_of_what_is_left(problems: Problems) -> None:
    X = problems.inputs["X"]
    zeta_init = float(X.abs().mean())
    made = unfold(RobustPca(rank=RANK, zeta_init=zeta_init), iterations=2, example={"X": X})
    x = np.asarray(X)
    U, s, Vh = np.linalg.svd(np.clip(x, -zeta_init, zeta_init))
    root = np.sqrt(s[:, None, :RANK])
    L, R = U[..., :RANK] * root, Vh[:, :RANK].transpose(0, 2, 1) * root
    given = {"X": X, "L0": torch.from_numpy(L), "R0": torch.from_numpy(R)}
    for found, expected in zip(made.iterates(X), numpy_iterates(made, given), strict=True):
        assert error(found, expected) < 1e-12
    assert "init_svd" in {visit.site for visit in call_sites(made)}


def test_a_threshold_for_each_problem_may_be_an_input(problems: Problems) -> None:
    X = problems.inputs["X"] * torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)[:, None, None]
    each = X.abs().mean((-2, -1))
    made = unfold(
        RobustPca(rank=RANK, zeta_init=Input()),
        iterations=3,
        example={"X": X, "zeta_init": each},
    )
    together = made(X=X, zeta_init=each)
    for x, zeta, found in zip(X, each, together, strict=True):
        alone = unfold(RobustPca(rank=RANK, zeta_init=float(zeta)), iterations=3, example={"X": X})
        assert error(found, alone(x[None])[0].detach()) < 1e-12


def test_skipped_updates_leave_a_factor_as_it_is(problems: Problems, factors: tuple[Tensor, Tensor]) -> None:
    exact = network(float(problems.inputs["X"].abs().mean()))
    given = inputs(problems, factors)
    made = approximate(approximate(exact, {"L": Skip()}, iterations=[2, 4]), {"R": Skip()}, iterations=[3])
    skipped = {(2, "L"), (4, "L"), (3, "R")}
    for found, expected in zip(
        made.iterates(*given.values()), numpy_iterates(made, given, skipped=skipped), strict=True
    ):
        assert error(found, expected) < 1e-12
    states = [state for _, state in made.trajectory(given)]
    assert torch.equal(states[1][0], states[2][0]) and not torch.equal(states[1][1], states[2][1])
    assert torch.equal(states[2][1], states[3][1]) and not torch.equal(states[2][0], states[3][0])
    inverses = [(v.iteration, v.site) for v in call_sites(made, given) if v.operation == "inverse"]
    everything = {(k, site) for k in range(K) for site in ("L_R_inverse", "R_L_inverse")}
    assert set(inverses) == everything - {(2, "L_R_inverse"), (4, "L_R_inverse"), (3, "R_L_inverse")}


def newton_schulz(A: Array, X: Array, steps: int) -> Array:
    for _ in range(steps):
        X = X + X @ (np.eye(len(A)) - A @ X)
    return X


def cold(A: Array) -> Array:
    return A.T / (np.linalg.norm(A, 1) * np.linalg.norm(A, np.inf))


@pytest.mark.parametrize("name", ["diagonal", "cold", "warm"])
def test_approximated_inverses_are_what_they_say(name: str, problems: Problems, factors: tuple[Tensor, Tensor]) -> None:
    exact = network(float(problems.inputs["X"].abs().mean()))
    given = inputs(problems, factors)
    choices: dict[str, Approximation] = {
        "diagonal": Diagonal(),
        "cold": NewtonSchulz(steps=3),
        "warm": NewtonSchulz(steps=1, warm_start=True, first_steps=16),
    }
    made = approximate(exact, {"inverse": choices[name]})
    kept: dict[str, Array] = {}

    def inverse(A: Array, k: int, site: str) -> Array:
        if name == "diagonal":
            return np.diag(1 / np.diag(A))
        if name == "cold":
            return newton_schulz(A, cold(A), 3)
        first = newton_schulz(A, cold(A), 16) if k == 0 else kept[site]
        kept[site] = newton_schulz(A, first, 1)
        return kept[site]

    for found, expected in zip(
        made.iterates(*given.values()), numpy_iterates(made, given, inverse=inverse), strict=True
    ):
        assert error(found, expected) < 1e-11


def test_only_the_warm_start_keeps_the_accuracy_from_mixed_factors() -> None:
    n, iterations = 120, 16
    made = robust_pca_problems(3, n, rank=3, seed=21)
    X, truth = made.inputs["X"], made.truth
    assert truth is not None
    zeta_init = 2 * float(X.abs().mean())
    spectral = unfold(RobustPca(rank=3, zeta_init=zeta_init), iterations=1, example={"X": X})
    L, R = spectral.solver.init(spectral.view(0, {"X": X}))
    L, R = mix_factors(L, R, 10.0, seed=22)
    solver = RobustPcaFromFactors(zeta_init=zeta_init, decay=0.6, eta=0.7)
    exact = unfold(solver, iterations=iterations, example={"X": X, "L0": L, "R0": R})

    def after(approximation: Approximation | None) -> float:
        used = exact if approximation is None else approximate(exact, {"inverse": approximation})
        return error(used(X=X, L0=L, R0=R), truth)

    best = after(None)
    unmixed = unfold(
        RobustPca(rank=3, zeta_init=zeta_init, decay=0.6, eta=0.7), iterations=iterations, example={"X": X}
    )
    assert abs(error(unmixed(X), truth) / best - 1) < 1e-6
    assert best < 1e-3
    assert after(NewtonSchulz(steps=1, warm_start=True, first_steps=16)) < 1.05 * best
    assert after(NewtonSchulz(steps=1, warm_start=True, first_steps=1)) > 10 * best
    assert after(NewtonSchulz(steps=8)) > 10 * best
    assert after(Diagonal()) > 10 * best


@pytest.mark.parametrize("supervised", [True, False])
def test_training_lowers_its_loss(supervised: bool, problems: Problems) -> None:
    X, truth = problems.inputs["X"], problems.truth
    assert truth is not None
    scaled = Problems({"X": 100 * X}, 100 * truth)  # entries near 1, so that the mean square is no tiny number
    solver = RobustPca(rank=RANK, zeta_init=float(100 * X.abs().mean()))
    made = unfold(solver, iterations=3, learn=["zeta", "eta"], example=dict(scaled.inputs))
    loss = Loss(supervised=supervised)
    before = loss.errors(made, scaled)[-1]
    Trainer(made, scaled, settings=Settings(steps=30, batch=3, loss=loss), progress=False).run()
    assert loss.errors(made, scaled)[-1] < 0.97 * before


def test_a_checkpoint_keeps_the_rank(problems: Problems, tmp_path: Path) -> None:
    X = problems.inputs["X"]
    made = unfold(RobustPca(rank=RANK, zeta_init=0.1), iterations=2, learn=["zeta"], example={"X": X})
    save_checkpoint(tmp_path / "robust_pca.ckpt", made)
    again = load_checkpoint(tmp_path / "robust_pca.ckpt", [RobustPca]).network
    torch.testing.assert_close(again(X), made(X), rtol=0, atol=0)
    assert int(torch.linalg.matrix_rank(again(X)[0])) == RANK


def test_the_diagonal_is_inverted() -> None:
    rng = np.random.default_rng(31)
    A = np.eye(4) * rng.uniform(1, 2, (3, 4, 1)) + 0.05 * rng.standard_normal((3, 4, 4))
    b = rng.standard_normal((3, 4, 2))
    expected = b / np.diagonal(A, axis1=1, axis2=2)[..., None]
    matrix, right = torch.from_numpy(A), torch.from_numpy(b)
    plain, learned = Diagonal(), Diagonal(learn="matrix")
    learned.prepare(matrix)
    for approximation in (plain, learned):
        assert error(approximation(None, matrix, right), expected) < 1e-14
        assert error(approximation(None, matrix) @ right, expected) < 1e-14
    radius = max(float(np.abs(np.linalg.eigvals(np.eye(4) - a / np.diag(a)[:, None])).max()) for a in A)
    assert abs(plain.convergence(matrix).number - radius) < 1e-12
    assert [plain.multiply_adds(matrix, right), learned.multiply_adds(matrix, right)] == [0, 4 * 4 * 2]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("dtype", "first_steps"), [pytest.param(torch.float32, 8, marks=pytest.mark.slow), (torch.float64, 4)]
)
def test_compiled_with_newton_schulz_every_iterate_agrees(
    dtype: torch.dtype, first_steps: int, problems: Problems, factors: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    given = {name: tensor.to(dtype) for name, tensor in inputs(problems, factors).items()}
    solver = RobustPcaFromFactors(zeta_init=float(given["X"].abs().mean()), decay=0.75)
    exact = unfold(solver, iterations=3, example=given)
    made = approximate(exact, {"inverse": NewtonSchulz(steps=1, warm_start=True, first_steps=first_steps)})
    path = tmp_path / "robust_pca.onnx"
    unfoldc.export_onnx(made.frozen(), tuple(given[n] for n in made.inputs), path, output_names=["Y"])
    compiled = unfoldc.compile(path, backend="c", cache=False)
    assert compiled.backend == "c" and compiled.iterations == 3
    arrays = {name: tensor.numpy() for name, tensor in given.items()}
    for k, expected in enumerate(made.iterates(*given.values()), start=1):
        found = compiled.run(arrays, iterations=k).outputs["Y"]
        assert error(torch.as_tensor(found), expected) < (1e-5 if dtype == torch.float32 else 1e-12)


def test_bad_arguments_are_refused(problems: Problems) -> None:
    X = problems.inputs["X"]
    with pytest.raises(InputError, match="rank"):
        RobustPca(rank=0, zeta_init=1.0)
    with pytest.raises(InputError, match="41 rows and columns"):
        unfold(RobustPca(rank=COLUMNS + 1, zeta_init=1.0), iterations=1, example={"X": X})
    with pytest.raises(InputError, match="rank=9 of 8 × 8"):
        robust_pca_problems(1, 8, rank=9)
    with pytest.raises(InputError, match="outliers=1.5"):
        robust_pca_problems(1, 8, rank=2, outliers=1.5)
    with pytest.raises(InputError, match="condition"):
        mix_factors(X[..., :2], X[..., :2], 0.5)
    with pytest.raises(InputError, match="Diagonal"):
        Diagonal(learn="all")  # type: ignore[arg-type]
