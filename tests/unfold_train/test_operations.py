from __future__ import annotations

import torch

from unfoldc.unfold_train.operations import apply, apply_adjoint, identity_like, scale_rows, spectral_norm


def test_one_matrix_per_problem_equals_one_matrix_for_all() -> None:
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(3, 5, generator=generator)
    x, r = torch.randn(4, 5, generator=generator), torch.randn(4, 3, generator=generator)
    many = A.expand(4, 3, 5)
    torch.testing.assert_close(apply(A, x), torch.stack([A @ one for one in x]))
    torch.testing.assert_close(apply_adjoint(A, r), torch.stack([A.T @ one for one in r]))
    torch.testing.assert_close(apply(many, x), apply(A, x))
    torch.testing.assert_close(apply_adjoint(many, r), apply_adjoint(A, r))
    torch.testing.assert_close(spectral_norm(A), torch.linalg.svdvals(A)[0])
    assert spectral_norm(many).shape == (4, 1)
    torch.testing.assert_close(spectral_norm(many)[2, 0], spectral_norm(A))


def test_rows_are_scaled_by_scalar_vector_or_problem() -> None:
    A = torch.ones(2, 3)
    assert torch.equal(scale_rows(torch.tensor(2.0), A), 2 * A)
    assert torch.equal(scale_rows(torch.tensor([1.0, 3.0]), A), torch.tensor([[1.0] * 3, [3.0] * 3]))
    each = scale_rows(torch.tensor([[1.0], [2.0]]), A.expand(2, 2, 3))
    assert torch.equal(each[1], 2 * A)
    assert torch.equal(identity_like(A), torch.eye(3))
