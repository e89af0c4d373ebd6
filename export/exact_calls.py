"""torch's solves, inverses and Cholesky factors expressed by the four operators of `exact_operators`.

What is asked of a call that these cannot give is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from unfoldc.errors import ExportError
from unfoldc.export import exact_operators as exact
from unfoldc.export.failures import module_path, users_name

_aten: Any = torch.ops.aten


def _solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """Torch's rule: the right side holds vectors if it has one axis, or the shape of A less the last axis."""
    if B.ndim == 1 or (A.ndim - 1 == B.ndim and B.shape == A.shape[:-1]):
        return exact.solve(A, B.unsqueeze(-1)).squeeze(-1)  # type: ignore[no-any-return]
    return exact.solve(A, B) if left else exact.solve(A.mT, B.mT).mT  # type: ignore[no-any-return]


def _solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    return _solve(A, B, left=left), _no_info(A)


def _inverse(A: Tensor) -> Tensor:
    return exact.inverse(A)  # type: ignore[no-any-return]


def _inverse_ex(A: Tensor, *, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    return _inverse(A), _no_info(A)


def _cholesky(A: Tensor, upper: bool = False) -> Tensor:
    return exact.cholesky(A.mT).mT if upper else exact.cholesky(A)  # type: ignore[no-any-return]


def _cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    return _cholesky(A, upper), _no_info(A)


def _cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """A = L Lᵀ, or A = Uᵀ U: the transposed factor comes second, or first."""
    half = exact.solve_triangular(L, B, upper, upper)
    return exact.solve_triangular(L, half, upper, not upper)  # type: ignore[no-any-return]


def _cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    identity = torch.eye(L.shape[-1], dtype=L.dtype, device=L.device)
    return _cholesky_solve(identity.expand(L.shape), L, upper)


def _solve_triangular(A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    if left:
        return exact.solve_triangular(A, B, upper, False)  # type: ignore[no-any-return]
    return exact.solve_triangular(A, B.mT, upper, True).mT  # type: ignore[no-any-return]


def _triangular_solve(
    B: Tensor, A: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Tensor, Tensor]:
    return exact.solve_triangular(A, B, upper, transpose), A.clone()


def _matrix_power(A: Tensor, n: int) -> Tensor:
    if n == 0:
        return torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand(A.shape).clone()
    base = exact.inverse(A) if n < 0 else A
    result = base.clone()
    for bit in bin(abs(n))[3:]:
        result = result @ result
        result = result @ base if bit == "1" else result
    return result


def _no_info(A: Tensor) -> Tensor:
    """In place of what tells whether the matrix is singular; `refuse` has seen that nothing reads it."""
    return torch.zeros(A.shape[:-2], dtype=torch.int32, device=A.device)


CALLS: Mapping[Any, Callable[..., Any]] = {
    _aten.cholesky.default: _cholesky,
    _aten.cholesky_inverse.default: _cholesky_inverse,
    _aten.cholesky_solve.default: _cholesky_solve,
    _aten.inverse.default: _inverse,
    _aten.linalg_cholesky.default: _cholesky,
    _aten.linalg_cholesky_ex.default: _cholesky_ex,
    _aten.linalg_inv.default: _inverse,
    _aten.linalg_inv_ex.default: _inverse_ex,
    _aten.linalg_matrix_power.default: _matrix_power,
    _aten.linalg_solve.default: _solve,
    _aten.linalg_solve_ex.default: _solve_ex,
    _aten.linalg_solve_triangular.default: _solve_triangular,
    _aten.matrix_power.default: _matrix_power,
    _aten.triangular_solve.default: _triangular_solve,
}
_WITH_INFO = (_aten.linalg_cholesky_ex.default, _aten.linalg_inv_ex.default, _aten.linalg_solve_ex.default)


def refuse(module: nn.Module, program: torch.export.ExportedProgram) -> None:
    """Refuse calls of which the functions lack something.

    Raises:
        ExportError: complex numbers, a unit triangular matrix, or code that reads whether a matrix is singular.
    """
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, fx.GraphModule) else ():
            if node.op == "call_function" and node.target in CALLS:
                _check(node, f"{type(module).__name__}{module_path(node)}", users_name(node))


def _check(node: fx.Node, where: str, called: str) -> None:
    operands = [n.meta.get("val") for n in node.all_input_nodes]
    if any(isinstance(value, Tensor) and value.dtype.is_complex for value in operands):
        raise ExportError(
            where,
            f"`{called}` of complex matrices",
            "real ones, float32 or float64: ONNX has no complex numbers",
            "Solve the real system of twice the size, [[Re A, -Im A], [Im A, Re A]] for the real and imaginary parts.",
        )
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    if given.get("unitriangular"):
        raise ExportError(
            where,
            f"`{called}` with unitriangular=True",
            "triangular matrices whose diagonal is read",
            "Put ones on the diagonal, A.tril(-1) + torch.eye(n), and leave the argument out.",
        )
    if node.target in _WITH_INFO and any(user.args[1:] == (1,) and user.users for user in node.users):
        raise ExportError(
            where,
            f"the `info` of `{called}`, which says whether a matrix is singular",
            "its first result alone; a file that failed gives NaN or infinity there",
            f"Take `{called}(...)[0]` and look for numbers that are not finite, as with torch.isfinite.",
        )
