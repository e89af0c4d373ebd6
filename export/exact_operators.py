"""The functions of `linear_algebra` as operators of torch, which torch.onnx translates one to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unfoldc.export.linear_algebra import DOMAIN, VERSION


def _cholesky(A: Tensor) -> Tensor:
    L: Tensor = torch.linalg.cholesky_ex(A)[0]
    return L.contiguous()


def _inverse(A: Tensor) -> Tensor:
    X: Tensor = torch.linalg.inv_ex(A)[0]
    return X.contiguous()


def _solve(A: Tensor, B: Tensor) -> Tensor:
    X: Tensor = torch.linalg.solve_ex(A, B)[0]
    return X.contiguous()


def _solve_triangular(A: Tensor, B: Tensor, upper: bool, transposed: bool) -> Tensor:
    A = A.mT if transposed else A
    X: Tensor = torch.linalg.solve_triangular(A, B, upper=upper != transposed)
    return X.contiguous()


def _like(A: Tensor) -> Tensor:
    return torch.empty_like(A, memory_format=torch.contiguous_format)


def _like_right_side(A: Tensor, B: Tensor, *flags: bool) -> Tensor:
    batch = torch.broadcast_shapes(A.shape[:-2], B.shape[:-2])  # type: ignore[no-untyped-call]
    return B.new_empty((*batch, *B.shape[-2:]))


@dataclass(frozen=True)
class _Operator:
    """`kind` is the function's name; `inputs` and `flags`, which are attributes in ONNX, are the arguments in order."""

    kind: str
    run: Callable[..., Tensor]
    shape: Callable[..., Tensor]
    inputs: tuple[str, ...]
    flags: tuple[str, ...] = ()

    def define(self, name: str) -> Any:
        """The operator of torch, `unfoldc::<name>`."""
        arguments = [*(f"Tensor {i}" for i in self.inputs), *(f"bool {f}" for f in self.flags)]
        schema = f"({', '.join(arguments)}) -> Tensor"
        operator = torch.library.custom_op(f"unfoldc::{name}", self.run, mutates_args=(), schema=schema)
        operator.register_fake(self.shape)
        return getattr(torch.ops.unfoldc, name).default

    def translation(self) -> Callable[..., Any]:
        """The operator in the exporter's graph: a node of the functions' domain."""
        from onnx.defs import OpSchema
        from onnxscript.values import Op, Opset

        schema = OpSchema(
            self.kind,
            DOMAIN,
            VERSION,
            inputs=[OpSchema.FormalParameter(name, "T") for name in self.inputs],
            outputs=[OpSchema.FormalParameter("X", "T")],
            type_constraints=[("T", ["tensor(float)", "tensor(double)"], "")],
            attributes=[OpSchema.Attribute(name, OpSchema.AttrType.INT) for name in self.flags],
        )
        node: Any = Op(Opset(DOMAIN, VERSION), self.kind, schema)
        count = len(self.inputs)

        def translate(*arguments: Any) -> Any:
            flags = {name: int(flag) for name, flag in zip(self.flags, arguments[count:], strict=True)}
            return node(*arguments[:count], **flags)

        return translate


_OPERATORS: Mapping[str, _Operator] = {
    "cholesky": _Operator("Cholesky", _cholesky, _like, ("A",)),
    "inverse": _Operator("Inverse", _inverse, _like, ("A",)),
    "solve": _Operator("Solve", _solve, _like_right_side, ("A", "B")),
    "solve_triangular": _Operator(
        "SolveTriangular", _solve_triangular, _like_right_side, ("A", "B"), ("upper", "transposed")
    ),
}
_DEFINED = {name: operator.define(name) for name, operator in _OPERATORS.items()}
cholesky, inverse, solve, solve_triangular = (_DEFINED[name] for name in _OPERATORS)


def translations() -> dict[Any, Callable[..., Any]]:
    """For torch.onnx: how each of the operators is written."""
    return {_DEFINED[name]: operator.translation() for name, operator in _OPERATORS.items()}
