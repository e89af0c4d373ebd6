"""Modules that solve, invert and factorise exactly: their exports against NumPy in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import inliner
from torch import Tensor, nn

from unfoldc.errors import ExportError
from unfoldc.export import ExportReport, export_onnx, iterate
from unfoldc.export import exact_operators as exact

Array = np.ndarray[Any, np.dtype[Any]]
Call = Callable[[Tensor, Tensor], Tensor]
N = 6


class Once(nn.Module):
    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call

    def forward(self, A: Tensor, B: Tensor) -> Tensor:
        return iterate(self.call(A, B))  # type: ignore[no-any-return]


def positive(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    H = torch.randn(*shape, N, N + 2, dtype=dtype)
    return H @ H.mT + 0.5 * torch.eye(N, dtype=dtype)


def run(model: onnx.ModelProto, *inputs: Tensor) -> dict[str, Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {v.name: t.numpy() for v, t in zip(session.get_inputs(), inputs, strict=True)}
    return dict(zip([v.name for v in session.get_outputs()], session.run(None, feed), strict=True))


def T(A: Array) -> Array:
    return np.swapaxes(A, -1, -2)


# What is called, what NumPy says, and which functions the file carries. B is (batch, n, 2).
CALLS: dict[str, tuple[Call, Callable[[Array, Array], Array], list[str]]] = {
    "solve": (torch.linalg.solve, np.linalg.solve, ["Solve"]),
    "solve_ex": (lambda A, B: torch.linalg.solve_ex(A, B)[0], np.linalg.solve, ["Solve"]),
    "solve_vectors": (
        lambda A, B: torch.linalg.solve(A, B[..., 0]),
        lambda A, B: np.linalg.solve(A, B[..., :1])[..., 0],
        ["Solve"],
    ),
    "solve_one_vector": (
        lambda A, B: torch.linalg.solve(A, torch.arange(N, dtype=A.dtype)),
        lambda A, B: np.linalg.solve(A, np.arange(N)[:, None])[..., 0],
        ["Solve"],
    ),
    "solve_one_matrix": (
        lambda A, B: torch.linalg.solve(torch.ones(N, N, dtype=A.dtype).triu(), B),
        lambda A, B: np.linalg.inv(np.triu(np.ones((N, N)))) @ B,
        ["Solve"],
    ),
    "solve_from_the_right": (
        lambda A, B: torch.linalg.solve(A.triu(), B.mT, left=False),
        lambda A, B: T(B) @ np.linalg.inv(np.triu(A)),
        ["Solve"],
    ),
    "inv": (lambda A, B: torch.linalg.inv(A), lambda A, B: np.linalg.inv(A), ["Inverse"]),
    "inv_ex": (lambda A, B: torch.linalg.inv_ex(A).inverse, lambda A, B: np.linalg.inv(A), ["Inverse"]),
    "inverse": (lambda A, B: A.inverse(), lambda A, B: np.linalg.inv(A), ["Inverse"]),
    "power": (
        lambda A, B: torch.linalg.matrix_power(A, -3),
        lambda A, B: np.linalg.matrix_power(A, -3),
        ["Inverse"],
    ),
    "cholesky": (lambda A, B: torch.linalg.cholesky(A), lambda A, B: np.linalg.cholesky(A), ["Cholesky"]),
    "cholesky_ex": (lambda A, B: torch.linalg.cholesky_ex(A)[0], lambda A, B: np.linalg.cholesky(A), ["Cholesky"]),
    "cholesky_upper": (
        lambda A, B: torch.linalg.cholesky(A, upper=True),
        lambda A, B: T(np.linalg.cholesky(A)),
        ["Cholesky"],
    ),
    "cholesky_solve": (
        lambda A, B: torch.cholesky_solve(B, torch.linalg.cholesky_ex(A)[0]),
        np.linalg.solve,
        ["Cholesky", "SolveTriangular"],
    ),
    "cholesky_solve_upper": (
        lambda A, B: torch.cholesky_solve(B, A, upper=True),
        lambda A, B: np.linalg.solve(T(np.triu(A)) @ np.triu(A), B),
        ["SolveTriangular"],
    ),
    "cholesky_inverse": (
        lambda A, B: torch.cholesky_inverse(torch.linalg.cholesky(A)),
        lambda A, B: np.linalg.inv(A),
        ["Cholesky", "SolveTriangular"],
    ),
    "solve_triangular": (
        lambda A, B: torch.linalg.solve_triangular(A, B, upper=False),
        lambda A, B: np.linalg.solve(np.tril(A), B),
        ["SolveTriangular"],
    ),
    "solve_triangular_upper": (
        lambda A, B: torch.linalg.solve_triangular(A, B, upper=True),
        lambda A, B: np.linalg.solve(np.triu(A), B),
        ["SolveTriangular"],
    ),
    "solve_triangular_transposed": (
        lambda A, B: torch.linalg.solve_triangular(A.mT, B, upper=True),
        lambda A, B: np.linalg.solve(T(np.tril(A)), B),
        ["SolveTriangular"],
    ),
    "solve_triangular_from_the_right": (
        lambda A, B: torch.linalg.solve_triangular(A, B.mT, upper=True, left=False),
        lambda A, B: T(B) @ np.linalg.inv(np.triu(A)),
        ["SolveTriangular"],
    ),
    "triangular_solve": (
        lambda A, B: torch.triangular_solve(B, A, upper=False, transpose=True)[0],
        lambda A, B: np.linalg.solve(T(np.tril(A)), B),
        ["SolveTriangular"],
    ),
}


@pytest.mark.filterwarnings("ignore:torch.triangular_solve")
@pytest.mark.parametrize("name", CALLS)
def test_calls(tmp_path: Path, name: str) -> None:
    """With a batch of any size; both types take turns, and so do the opsets."""
    torch.manual_seed(3)
    call, reference, functions = CALLS[name]
    number = list(CALLS).index(name)
    dtype = (torch.float32, torch.float64)[number % 2]
    example = positive(3, dtype=dtype), torch.randn(3, N, 2, dtype=dtype)
    report = export_onnx(Once(call), example, tmp_path / "a.onnx", opset=(18, 20, 23)[number % 3])
    assert report.checked_by == "ONNX Runtime"
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [f.name for f in model.functions] == functions
    for batch in (1, 5):
        A, B = positive(batch, dtype=dtype), torch.randn(batch, N, 2, dtype=dtype)
        wanted = reference(A.double().numpy(), B.double().numpy())
        condition = max(np.linalg.cond(M).max() for M in (A.double(), A.double().tril(), A.double().triu()))
        found = run(model, A, B)["x"]
        assert found.shape == wanted.shape and found.dtype == A.numpy().dtype
        allowed = 10 * N * torch.finfo(dtype).eps * condition ** (3 if name == "power" else 2 if "upper" in name else 1)
        assert np.linalg.norm(found - wanted) <= allowed * np.linalg.norm(wanted)


def test_without_and_with_two_batch_axes(tmp_path: Path) -> None:
    def call(A: Tensor, B: Tensor) -> Tensor:
        x = torch.linalg.solve(A, B) + torch.linalg.inv(A) @ B
        return x + torch.cholesky_solve(B, torch.linalg.cholesky(A))

    torch.manual_seed(1)
    for shape in ((), (2, 3)):
        A, B = positive(*shape), torch.randn(*shape, N, 2, dtype=torch.float64)
        export_onnx(Once(call), (A, B), tmp_path / "a.onnx", batch="fixed")
        model = onnx.load(tmp_path / "a.onnx")
        assert [f.name for f in model.functions] == ["Cholesky", "Inverse", "Solve", "SolveTriangular"]
        np.testing.assert_allclose(
            run(model, A, B)["x"], 3 * np.linalg.solve(A.numpy(), B.numpy()), rtol=1e-10, atol=1e-10
        )


def test_a_transposed_triangle_is_read_where_it_stands(tmp_path: Path) -> None:
    """Both substitutions of a Cholesky solve read L; a Transpose of other axes stays."""

    def call(A: Tensor, B: Tensor) -> Tensor:
        L = torch.linalg.cholesky_ex(A)[0]
        half = torch.linalg.solve_triangular(L, B, upper=False)
        x = torch.linalg.solve_triangular(L.mT, half, upper=True)
        return x + torch.linalg.solve_triangular(L.transpose(0, 2).transpose(0, 1), B, upper=True).sum()

    torch.manual_seed(0)
    A, B = positive(N), torch.randn(N, N, 2, dtype=torch.float64)
    export_onnx(Once(call), (A, B), tmp_path / "a.onnx", batch="fixed", check=False)
    graph = onnx.load(tmp_path / "a.onnx").graph
    producers = {value: node for node in graph.node for value in node.output}
    first, second, third = (node for node in graph.node if node.op_type == "SolveTriangular")
    assert first.input[0] == second.input[0] and producers[first.input[0]].op_type == "Cholesky"
    assert producers[third.input[0]].op_type == "Transpose"
    flags = [{a.name: a.i for a in node.attribute} for node in (first, second, third)]
    lower, transposed = {"upper": 0, "transposed": 0}, {"upper": 0, "transposed": 1}
    assert flags == [lower, transposed, {"upper": 1, "transposed": 0}]


class Admm(nn.Module):
    """min ½ xᵀG x - bᵀx + λ||x||₁ with a system to solve in each layer; G comes with each problem."""

    class Layer(nn.Module):
        def __init__(self, rho: float) -> None:
            super().__init__()
            self.rho, self.threshold = nn.Parameter(torch.tensor(rho)), nn.Parameter(torch.tensor(0.1))

        def forward(self, G: Tensor, b: Tensor, z: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
            x = torch.linalg.solve(G + self.rho * torch.eye(N, dtype=G.dtype), b + self.rho * (z - u))
            v = x + u
            z = torch.sign(v) * torch.relu(v.abs() - self.threshold)
            return z, v - z

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Admm.Layer(0.5 + 0.1 * k) for k in range(count))

    def forward(self, G: Tensor, b: Tensor) -> Tensor:
        z = u = torch.zeros_like(b)
        for layer in self.layers:
            z, u = layer(G, b, z, u)
        return z


def export_admm(path: Path, count: int) -> tuple[ExportReport, onnx.ModelProto]:
    torch.manual_seed(2)
    module = Admm(count).double()
    report = export_onnx(module, (positive(3), torch.randn(3, N, dtype=torch.float64)), path, iterates=True)
    return report, onnx.load(path)


def check_admm(model: onnx.ModelProto, count: int) -> None:
    """The iterates by NumPy, layer by layer."""
    A, b = positive(4), torch.randn(4, N, dtype=torch.float64)
    found = run(model, A, b)
    z = u = np.zeros((4, N))
    for k in range(count):
        rho, threshold = float(np.float32(0.5 + 0.1 * k)), float(np.float32(0.1))
        v = np.linalg.solve(A.numpy() + rho * np.eye(N), (b.numpy() + rho * (z - u))[..., None])[..., 0] + u
        z = np.sign(v) * np.maximum(np.abs(v) - threshold, 0)
        u = v - z
        np.testing.assert_allclose(found[f"x.iterate.{k}"], z, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(found["x"], z, rtol=1e-11, atol=1e-11)


def test_a_solver_with_a_system_in_each_layer(tmp_path: Path) -> None:
    report, model = export_admm(tmp_path / "a.onnx", 5)
    assert (report.iterations, report.checked_by, report.iterates_compared) == (5, "ONNX Runtime", True)
    assert report.error is not None and report.error < 1e-13
    assert [f.name for f in model.functions] == ["Solve"]
    assert [(i.domain, i.version) for i in model.opset_import] == [("", 20), ("unfoldc", 1)]
    calls = [node for node in model.graph.node if node.op_type == "Solve"]
    assert [(node.domain, node.name) for node in calls] == [("unfoldc", f"iteration.{k}/Solve_0") for k in range(5)]
    check_admm(model, 5)
    check_admm(inliner.inline_local_functions(model), 5)


@pytest.mark.slow
def test_deep_solvers_stay_periodic(tmp_path: Path) -> None:
    _, model = export_admm(tmp_path / "a.onnx", 16)
    operators = [[n.op_type for n in model.graph.node if n.name.startswith(f"iteration.{k}/")] for k in range(16)]
    assert all(layer == operators[1] for layer in operators[1:-1])
    assert len(model.functions) == 1
    check_admm(model, 16)


def test_a_system_inside_a_loop_of_torch(tmp_path: Path) -> None:
    def call(A: Tensor, B: Tensor) -> Tensor:
        def body(i: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            x = torch.cholesky_solve(B + x, torch.linalg.cholesky(A))
            return i + 1, x.clone(memory_format=torch.contiguous_format)

        loop: Any = torch._higher_order_ops.while_loop  # type: ignore[attr-defined]
        found: Tensor = loop(lambda i, x: i < 3, body, (torch.tensor(0), torch.zeros_like(B)))[1]
        return found

    torch.manual_seed(0)
    export_onnx(Once(call), (positive(3), torch.randn(3, N, 2, dtype=torch.float64)), tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    assert "Loop" in {n.op_type for n in model.graph.node}
    assert [f.name for f in model.functions] == ["Cholesky", "SolveTriangular"]
    A, B = positive(2), torch.randn(2, N, 2, dtype=torch.float64)
    inverse, wanted = np.linalg.inv(A.numpy()), np.zeros((2, N, 2))
    for _ in range(3):
        wanted = inverse @ (B.numpy() + wanted)
    np.testing.assert_allclose(run(model, A, B)["x"], wanted, rtol=1e-10, atol=1e-10)


def test_an_ill_conditioned_matrix_may_cost_digits_but_not_all(tmp_path: Path) -> None:
    """What counts is how far rounding moves PyTorch's own answer; a wrong one is still refused."""
    torch.manual_seed(0)
    U, V = (torch.linalg.qr(torch.randn(N, N))[0] for _ in range(2))
    A = U * torch.logspace(0, -5.5, N) @ V

    class Fixed(nn.Module):
        def __init__(self, wrong: float) -> None:
            super().__init__()
            self.A, self.calls, self.wrong = nn.Parameter(A), 0, wrong

        def forward(self, y: Tensor) -> Tensor:
            self.calls += 1
            x = torch.linalg.solve(self.A, y.T).T
            return iterate(x * (1 + self.wrong * self.calls))  # type: ignore[no-any-return]

    report = export_onnx(Fixed(0.0), torch.randn(3, N), tmp_path / "a.onnx")
    assert report.error is not None and report.error_limit is not None and 1e-4 < report.error_limit <= 1e-2
    with pytest.raises(ExportError, match="PyTorch differ by .* a matrix is nearly singular"):
        export_onnx(Fixed(0.02), torch.randn(3, N), tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("call", "found", "do"),
    [
        (lambda A, B: torch.linalg.cholesky_ex(A)[1] + B[:, 0, 0], "the `info` of `torch.linalg.cholesky_ex`", "[0]"),
        (lambda A, B: torch.linalg.inv_ex(A).info + B[:, 0, 0], "the `info` of `torch.linalg.inv_ex`", "isfinite"),
        (
            lambda A, B: torch.linalg.solve_triangular(A, B, upper=True, unitriangular=True),
            "`torch.linalg.solve_triangular` with unitriangular=True",
            "torch.eye",
        ),
        (lambda A, B: torch.linalg.solve(A + 0j, B + 0j).real, "`torch.linalg.solve` of complex", "twice the size"),
        (lambda A, B: torch.linalg.svdvals(A), "`torch.linalg.svdvals` has no", "unfoldc.approximate(model, {'svd'"),
        (lambda A, B: torch.linalg.eigvalsh(A), "`torch.linalg.eigvalsh` has no", "store the result as a buffer"),
        (lambda A, B: torch.linalg.qr(A)[1], "`torch.linalg.qr` has no", "cholesky(A.mT @ A, upper=True)"),
        (lambda A, B: torch.linalg.slogdet(A)[1], "`torch.linalg.slogdet` has no", "diagonal of cholesky"),
        (lambda A, B: torch.linalg.lu_factor(A)[0], "`torch.linalg.lu_factor` has no", "solve_triangular export exact"),
        (lambda A, B: torch.linalg.pinv(A), "`torch.linalg.pinv` has no", "solve(A.mT @ A, A.mT)"),
        (lambda A, B: torch.linalg.tensorinv(A[0], 1), "`torch.linalg.tensorinv` has no", "reshape the tensors"),
    ],
)
def test_what_is_refused_by_name(tmp_path: Path, call: Call, found: str, do: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(ExportError) as caught:
        export_onnx(Once(call), (positive(3), torch.randn(3, N, 2, dtype=torch.float64)), tmp_path / "a.onnx")
    assert found in caught.value.found and do in caught.value.do
    assert not list(tmp_path.iterdir())


def test_the_operators_that_stand_for_the_functions() -> None:
    torch.manual_seed(0)
    A, B = positive(3), torch.randn(2, 3, N, 2, dtype=torch.float64)
    calls: list[tuple[Any, tuple[Any, ...]]] = [(exact.cholesky, (A,)), (exact.inverse, (A,)), (exact.solve, (A, B))]
    calls += [
        (exact.solve_triangular, (A, B, upper, transposed)) for upper in (False, True) for transposed in (False, True)
    ]
    for operator, arguments in calls:
        torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))
    upper = A.triu().mT
    torch.testing.assert_close(exact.solve_triangular(A, B, True, True), torch.linalg.solve(upper, B))
