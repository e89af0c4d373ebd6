"""Approximate torch.linalg.solve in a module that knows nothing of unfoldc, train it, export it, compile it.

Half a minute: python examples/approximate_any_module.py
"""

import tempfile

import torch
from torch import Tensor, nn

import unfoldc
from unfoldc.unfold_train import approximate
from unfoldc.unfold_train.approximations import ConjugateGradient

ITERATIONS, M, N = 6, 48, 64
A = torch.randn(M, N, generator=torch.Generator().manual_seed(0)) / M**0.5


class ReweightedLeastSquares(nn.Module):
    """Sparse x from y = A x: x ← (AᵀA + λ diag(1/(|x| + ε)))⁻¹Aᵀy, with a new matrix in each iteration."""

    def __init__(self) -> None:
        super().__init__()
        self.log_weight = nn.Parameter(torch.full((ITERATIONS,), -4.0))
        self.log_width = nn.Parameter(torch.linspace(-1, -4, ITERATIONS))

    def forward(self, y: Tensor) -> Tensor:
        """The estimate (batch, n) for y (batch, m)."""
        x = b = y @ A
        for k in range(ITERATIONS):
            d = self.log_weight[k].exp() / (x.abs() + self.log_width[k].exp())
            x = unfoldc.iterate(torch.linalg.solve(A.T @ A + torch.diag_embed(d), b))
        return x


def problems(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Measurements with noise, and the sparse x."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, N, generator=g) * (torch.rand(count, N, generator=g) < 0.08)
    return x @ A.T + 0.01 * torch.randn(count, M, generator=g), x


torch.set_num_threads(1)
y, x = problems(500, seed=1)
exact = ReweightedLeastSquares()
cheap = approximate(exact, {"solve": ConjugateGradient(3, warm_start=True, learn="scalar")}, example_inputs=y[:2])
for name, model in (("exact", exact), ("approximated", cheap)):
    before = (model(y) - x).norm() / x.norm()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.04)
    for step in range(150):
        inputs, truth = problems(32, seed=1000 + step)
        optimiser.zero_grad()
        (model(inputs) - truth).square().mean().backward()
        optimiser.step()
    after = (model(y) - x).norm() / x.norm()
    with tempfile.TemporaryDirectory() as folder:
        unfoldc.export_onnx(model, (y[:2],), f"{folder}/solver.onnx")
        board = unfoldc.compile(f"{folder}/solver.onnx", target="stm32f407").profile({"y": y[:1].numpy()})
    print(f"{name}: error {before:.3f}, trained {after:.3f}; {board.instructions:,} instructions on the stm32f407")
