"""Small operations that work for one matrix shared by the batch and for one matrix per problem alike."""

from __future__ import annotations

import torch
from torch import Tensor


def apply(A: Tensor, x: Tensor) -> Tensor:
    """A x for each problem: A is (m, n) or (batch, m, n), x is (batch, n); returns (batch, m)."""
    return x @ A.mT if A.dim() == 2 else (A @ x.unsqueeze(-1)).squeeze(-1)


def apply_adjoint(A: Tensor, r: Tensor) -> Tensor:
    """Aᵀ r for each problem: A is (m, n) or (batch, m, n), r is (batch, m); returns (batch, n)."""
    return r @ A if A.dim() == 2 else (r.unsqueeze(-2) @ A).squeeze(-2)


def spectral_norm(A: Tensor) -> Tensor:
    """‖A‖₂: a scalar for (m, n), shape (batch, 1) for (batch, m, n), so that it multiplies vectors of a batch."""
    norm: Tensor = torch.linalg.matrix_norm(A, 2)
    return norm if A.dim() == 2 else norm.unsqueeze(-1)


def scale_rows(scale: Tensor, A: Tensor) -> Tensor:
    """diag(scale) A: scale is a scalar, (m,) or (batch, 1)."""
    return scale.unsqueeze(-1) * A


def identity_like(A: Tensor) -> Tensor:
    """The (n, n) identity for A of shape (..., m, n), with its type and device."""
    return torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
