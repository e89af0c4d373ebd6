from __future__ import annotations

import math

import torch

from unfoldc.unfold_train.proximal import soft_threshold


def test_soft_threshold_is_the_proximal_operator() -> None:
    z = torch.tensor([-2.0, -0.5, 0.0, 0.4, 3.0])
    assert torch.equal(soft_threshold(z, torch.tensor(0.5)), torch.tensor([-1.5, 0.0, 0.0, 0.0, 2.5]))


def test_both_forms_give_the_same_numbers() -> None:
    z = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    theta = torch.rand(20, generator=torch.Generator().manual_seed(1))
    plain = soft_threshold(z, theta)
    trained = soft_threshold(z.requires_grad_(), theta)
    assert trained.requires_grad and not plain.requires_grad
    assert torch.equal(plain, trained)


def test_nan_and_infinity_stay_visible() -> None:
    for grad in (False, True):
        z = torch.tensor([math.nan, math.inf, -math.inf], requires_grad=grad)
        x = soft_threshold(z, torch.tensor(0.1)).detach()
        assert torch.isnan(x[0]) and x[1] == math.inf and x[2] == -math.inf
        assert torch.isnan(soft_threshold(torch.ones(1, requires_grad=grad), torch.tensor(math.nan))).all()


def test_gradients_match_finite_differences() -> None:
    z = torch.tensor([[-2.0, -0.3, 0.2, 1.5]], dtype=torch.float64, requires_grad=True)
    theta = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(soft_threshold, (z, theta))
