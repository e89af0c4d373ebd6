"""The whole line on small models: PyTorch, ONNX, each back end and a device, answers, profile, folder, commands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import unfoldc
from unfoldc import cli
from unfoldc.runtime import Solver, Status
from unfoldc.unfold_train import Ista, unfold

M, N, K = 6, 13, 5
WAYS = {
    "c": ("host", "c", 1e-5),
    "numba": ("host", "numba", 1e-5),
    "tvm": ("host", "tvm", 1e-5),
    "reference": ("host", "reference", 1e-5),
    "cortex-m4": ("cortex-m4", "c", 1e-4),
}


@dataclass(frozen=True)
class Case:
    """An exported network, problems, and PyTorch's estimates after 1, ..., K iterations."""

    path: Path
    y: np.ndarray
    estimates: list[np.ndarray]


def export(module: nn.Module, path: Path, y: np.ndarray) -> None:
    report = unfoldc.export_onnx(module, torch.from_numpy(y), path, iterates=True, output_names=["x"])
    assert report.iterations == K


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """ISTA with step sizes and thresholds of its own in each iteration, and one shared pair of matrices."""
    rng = np.random.default_rng(7)
    A = rng.standard_normal((M, N)).astype(np.float32)
    network = unfold(Ista(A=A, rho=0.1), iterations=K, learn=["A", "B", "mu", "theta"], tied=["A", "B"])
    with torch.no_grad():
        for k, parameter in enumerate(network.parameters()):
            parameter.add_(0.01 * (1 + k % 3))
    y = rng.standard_normal((37, M)).astype(np.float32)
    with torch.no_grad():
        estimates = [network(torch.from_numpy(y), iterations=k).numpy() for k in range(1, K + 1)]
    path = tmp_path_factory.mktemp("export") / "ista.onnx"
    export(network.frozen(), path, y)
    return Case(path, y, estimates)


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest, case: Case) -> tuple[Solver, float]:
    """A solver per back end and target, and the error it may have."""
    target, backend, limit = WAYS[request.param]
    solver = unfoldc.compile(case.path, target=target, backend=backend)
    assert (solver.iterations, solver.backend, solver.target) == (K, backend, target)
    return solver, limit


def error(answer: np.ndarray, right: np.ndarray) -> float:
    """The largest error of a problem relative to the larger of its own and the batch's median norm."""
    norms = np.linalg.norm(right, axis=1)
    return float((np.linalg.norm(answer - right, axis=1) / np.maximum(norms, np.median(norms))).max())


def test_answers_after_each_iteration_are_those_of_pytorch(way: tuple[Solver, float], case: Case) -> None:
    solver, limit = way
    assert error(solver(case.y), case.estimates[-1]) < limit
    for k, right in enumerate(case.estimates, 1):
        result = solver.run({"y": case.y}, iterations=k)
        assert error(result.outputs["x"], right) < limit
        assert result.status is (Status.COMPLETE if k == K else Status.STOPPED)


@pytest.mark.parametrize("batch", [1, 2, 33])
def test_a_batch_is_its_problems_one_by_one(way: tuple[Solver, float], case: Case, batch: int) -> None:
    solver, limit = way
    assert error(solver(case.y[:batch]), case.estimates[-1][:batch]) < limit


def test_a_problem_that_is_not_finite_is_seen_and_disturbs_no_other(way: tuple[Solver, float], case: Case) -> None:
    solver, limit = way
    y = case.y.copy()
    y[3, 1] = np.nan
    result = solver.run({"y": y})
    assert result.status is Status.NOT_FINITE and np.isnan(result.outputs["x"][3]).any()
    others = np.arange(len(y)) != 3
    assert error(result.outputs["x"][others], case.estimates[-1][others]) < limit


def test_the_profile_has_a_row_per_iteration(way: tuple[Solver, float], case: Case) -> None:
    solver, _ = way
    profile = solver.profile({"y": case.y[:4]}, repeats=5, truth=case.estimates[-1][:4])
    assert [row.k for row in profile.iterations] == list(range(1, K + 1))
    errors = [row.error or 0.0 for row in profile.iterations]
    assert errors[-1] < 1e-4 < errors[0]
    if solver.target == "host":
        timed = solver.backend != "reference"
        assert all((row.seconds_p50 is not None) == timed for row in profile.iterations)
        assert profile.seconds_p50 is not None and profile.instructions is None
    else:
        counts = [row.instructions or 0 for row in profile.iterations]
        assert min(counts) > 0 and counts[1:] == counts[1:2] * (K - 1) and profile.seconds_p50 is None
        assert profile.flash_bytes and profile.ram_bytes and profile.stack_bytes
    json.loads(profile.to_json())
    assert str(profile)


def test_a_saved_solver_answers_the_same(way: tuple[Solver, float], case: Case, tmp_path: Path) -> None:
    solver, _ = way
    loaded = unfoldc.load(solver.save(tmp_path / "build"))
    np.testing.assert_array_equal(loaded(case.y[:5]), solver(case.y[:5]))
    assert (loaded.backend, loaded.target, loaded.iterations) == (solver.backend, solver.target, K)


def test_onnx_runtime_gives_the_same(case: Case) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(case.path)
    found = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"y": case.y}), strict=True))
    assert error(unfoldc.compile(case.path)(case.y), found["x"]) < 1e-5


@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_the_command_line_does_it_all(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    np.save(tmp_path / "y.npy", case.y[:3])
    folder, y, x = tmp_path / "build", tmp_path / "y.npy", tmp_path / "x.npy"
    for arguments in (
        ["inspect", case.path, "--json"],
        ["compile", case.path, "--target", target, "-o", folder, "--json"],
        ["run", folder, y, "-o", x, "--json"],
        ["profile", folder, y, "--repeats", "3", "--json"],
    ):
        assert cli.main([str(a) for a in arguments]) == 0
        out, err = capsys.readouterr()
        assert err == "" and json.loads(out)["iterations"]
    assert error(np.load(x), case.estimates[-1][:3]) < 1e-4


class Layer(nn.Module):
    """A user's own layer: x + W (y - A x)."""

    def __init__(self, a: torch.Tensor) -> None:
        super().__init__()
        self.a = nn.Parameter(a)
        self.w = nn.Parameter(0.05 * a.T + 0.01)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x + (y - x @ self.a.T) @ self.w.T)


class Listed(nn.Module):
    """K layers in a ModuleList, each with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(Layer(torch.randn(M, N)) for _ in range(K))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        x = y.new_zeros(y.shape[0], N)
        for layer in self.layers:
            x = layer(x, y)
        return x


class Loop(nn.Module):
    """One layer in a plain loop with a marker."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = Layer(torch.randn(M, N))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        x = y.new_zeros(y.shape[0], N)
        for _ in range(K):
            x = unfoldc.iterate(self.layer(x, y))
        return x


@pytest.mark.parametrize("module", [Listed, Loop])
def test_a_users_own_module(module: type[nn.Module], case: Case, tmp_path: Path) -> None:
    network = module()
    export(network, tmp_path / "own.onnx", case.y)
    solver = unfoldc.compile(tmp_path / "own.onnx")
    with torch.no_grad():
        right = network(torch.from_numpy(case.y)).numpy()
    assert solver.iterations == K and error(solver(case.y), right) < 1e-5
    assert solver.run({"y": case.y}, iterations=2).iterations == 2
