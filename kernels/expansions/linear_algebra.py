"""Exact linear algebra, which ONNX lacks: functions of the domain `unfoldc`, and `Inverse` of ONNX Runtime.

A factorisation is a node of its own, so that it is done once where the matrix is the same in each iteration.
"""

from __future__ import annotations

from unfoldc.kernels.expansions.table import Call, Maker, expands


def _check(call: Call, inputs: int, *attributes: str) -> None:
    """Raises ValueError unless the node has so many inputs, one result, and no attributes but these, each 0 or 1."""
    if len(call.inputs) != inputs or not all(call.inputs):
        raise ValueError(f"{len(list(filter(None, call.inputs)))} inputs, where {inputs} are needed")
    if len(call.outputs) != 1 or not call.outputs[0]:
        raise ValueError(f"{len(call.outputs)} results, where there is 1")
    for name, value in call.attributes.items():
        if name not in attributes or type(value) is not int or value not in (0, 1):
            raise ValueError(f"attribute {name!r} = {value!r}, where {', '.join(attributes) or 'none'} may be 0 or 1")


@expands("unfoldc.Cholesky")
def cholesky(maker: Maker, call: Call) -> tuple[str, ...]:
    """L, lower triangular, with A = L L^T; of A (..., n, n) the lower triangle is read. NaN where A is not positive."""
    _check(call, 1)
    return (maker.node("Cholesky", *call.inputs),)


@expands("unfoldc.SolveTriangular")
def solve_triangular(maker: Maker, call: Call) -> tuple[str, ...]:
    """X (..., n, m) with op(A) X = B; `upper` names the triangle of A that is read, `transposed` makes op(A) = A^T."""
    _check(call, 2, "upper", "transposed")
    flags = {name: int(call.attributes.get(name, 0)) for name in ("upper", "transposed")}
    return (maker.node("SolveTriangular", *call.inputs, **flags),)


@expands("unfoldc.Solve")
def solve(maker: Maker, call: Call) -> tuple[str, ...]:
    """X (..., n, m) with A X = B, by LU factorisation with partial pivoting."""
    _check(call, 2)
    return (maker.node("SolveFactored", maker.node("LowerUpper", call.inputs[0]), call.inputs[1]),)


@expands("unfoldc.Inverse", "com.microsoft.Inverse")
def inverse(maker: Maker, call: Call) -> tuple[str, ...]:
    """The inverse of A (..., n, n), by LU factorisation with partial pivoting."""
    _check(call, 1)
    return (maker.node("InverseFactored", maker.node("LowerUpper", call.inputs[0])),)
