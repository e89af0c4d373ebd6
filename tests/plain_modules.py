"""Plain functions as modules, and a system for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

N = 5


def of(function: Callable[..., Tensor]) -> nn.Module:
    class Calls(nn.Module):
        def forward(self, *inputs: Any) -> Tensor:
            return function(*inputs)

    return Calls()


def matrix() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    A = torch.randn(9, N, generator=generator)
    return A.mT @ A + 3 * torch.eye(N), torch.randn(N, 2, generator=generator)
