"""Small solvers of the kinds that users write, for the tests of the export."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from unfoldc.export import iterate

M, N = 5, 8


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * 0.3)


def soft(z: Tensor, t: Any) -> Tensor:
    return torch.sign(z) * torch.relu(z.abs() - t)


class Layer(nn.Module):
    def __init__(self, w1: nn.Parameter, w2: nn.Parameter, theta: float) -> None:
        super().__init__()
        self.w1, self.w2, self.theta = w1, w2, nn.Parameter(torch.tensor(theta))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return soft(x @ self.w2.T + y @ self.w1.T, self.theta)


class Lista(nn.Module):
    """Items of a ModuleList; tied, untied, or the same module K times."""

    def __init__(self, count: int = 4, form: str = "tied") -> None:
        super().__init__()
        w1, w2 = weight(N, M), weight(N, N)
        if form == "same":
            self.layers = nn.ModuleList([Layer(w1, w2, 0.1)] * count)
        elif form == "tied":
            self.layers = nn.ModuleList(Layer(w1, w2, 0.1 + 0.01 * k) for k in range(count))
        else:
            self.layers = nn.ModuleList(Layer(weight(N, M), weight(N, N), 0.1 + 0.01 * k) for k in range(count))

    def forward(self, y: Tensor) -> Tensor:
        x = y.new_zeros(y.shape[0], N)
        for layer in self.layers:
            x = layer(x, y)
        return x


class Loop(nn.Module):
    """A plain loop with a marker; the product with y in front of the loop or in it; something after the loop."""

    def __init__(self, count: int = 4, where: str = "end", hoisted: bool = True, start: str = "zeros") -> None:
        super().__init__()
        self.w1, self.w2, self.synthesis = weight(N, M), weight(N, N), weight(N, 6)
        self.theta = nn.Parameter(torch.linspace(0.05, 0.1, count))
        self.count, self.where, self.hoisted, self.start = count, where, hoisted, start

    def forward(self, y: Tensor) -> Tensor:
        b = y @ self.w1.T
        x = torch.zeros_like(b) if self.start == "zeros" else soft(b, 0.2) if self.start == "prox" else b
        for k in range(self.count):
            if self.where == "start":
                x = iterate(x)
            if not self.hoisted:
                b = y @ self.w1.T
            x = soft(x @ self.w2.T + b, self.theta[k])
            if self.where == "end":
                x = iterate(x)
        return torch.tanh(x @ self.synthesis)


class Fista(nn.Module):
    """Momentum in a plain loop: x and v are the states."""

    def __init__(self, count: int = 4, where: str = "end") -> None:
        super().__init__()
        self.A, self.mu = weight(M, N), nn.Parameter(torch.linspace(0.2, 0.3, count))
        self.count, self.where = count, where

    def forward(self, y: Tensor) -> Tensor:
        x = torch.zeros(y.shape[0], N)
        v, t = x, 1.0
        for k in range(self.count):
            if self.where == "start":
                x, v = iterate(x, v, names=("x", "v"))
            new = soft(v - self.mu[k] * ((v @ self.A.T - y) @ self.A), 0.05)
            after = (1 + (1 + 4 * t * t) ** 0.5) / 2
            v, x, t = new + (t - 1) / after * (new - x), new, after
            if self.where == "end":
                x, v = iterate(x, v, names=("x", "v"))
        return x


class GradientStep(nn.Module):
    def __init__(self, A: nn.Parameter, mu: float) -> None:
        super().__init__()
        self.A, self.mu = A, nn.Parameter(torch.tensor(mu))

    def forward(self, v: Tensor, y: Tensor) -> Tensor:
        return soft(v - self.mu * ((v @ self.A.T - y) @ self.A), 0.05)


class Momentum(nn.Module):
    """Items of a ModuleList with momentum computed between them: in front of the item, or after it."""

    def __init__(self, count: int = 4, after: bool = False) -> None:
        super().__init__()
        A = weight(M, N)
        self.layers = nn.ModuleList(GradientStep(A, 0.2 + 0.01 * k) for k in range(count))
        self.after = after

    def forward(self, y: Tensor) -> Tensor:
        x = torch.zeros(y.shape[0], N)
        v = previous = x
        for k, layer in enumerate(self.layers):
            if self.after:
                new = layer(v, y)
                v, x = new + 0.1 * (k + 1) * (new - x), new
            else:
                v, previous = x + 0.1 * (k + 1) * (x - previous), x
                x = layer(v, y)
        return x


class Admm(nn.Module):
    """Three tensors go from iteration to iteration, of which x is overwritten unread; u may pass by the marker."""

    def __init__(self, count: int = 4, where: str = "end", passing: bool = False) -> None:
        super().__init__()
        self.A, self.M, self.rho = weight(M, N), weight(N, N), nn.Parameter(torch.linspace(0.5, 0.6, count))
        self.count, self.where, self.passing = count, where, passing

    def forward(self, y: Tensor) -> Tensor:
        b = y @ self.A
        x = z = u = torch.zeros_like(b)
        for k in range(self.count):
            if self.where == "start":
                x, z, u = self.mark(x, z, u)
            x = (b + self.rho[k] * (z - u)) @ self.M
            z = soft(x + u, 0.1)
            u = u + x - z
            if self.where == "end":
                x, z, u = self.mark(x, z, u)
        return z

    def mark(self, x: Tensor, z: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.passing:
            return x, iterate(z), u
        x, z, u = iterate(x, z, u)
        return x, z, u


class AdmmStep(nn.Module):
    def __init__(self, rho: float) -> None:
        super().__init__()
        self.M, self.rho = weight(N, N), nn.Parameter(torch.tensor(rho))

    def forward(self, b: Tensor, z: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        x = (b + self.rho * (z - u)) @ self.M
        z = soft(x + u, 0.1)
        return z, u + x - z


class AdmmLayers(nn.Module):
    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.A = weight(M, N)
        self.layers = nn.ModuleList(AdmmStep(0.5 + 0.01 * k) for k in range(count))

    def forward(self, y: Tensor) -> Tensor:
        b = y @ self.A
        z = u = torch.zeros_like(b)
        for layer in self.layers:
            z, u = layer(b, z, u)
        return z


class Cooling(nn.Module):
    """The threshold is a state of its own, computed from itself alone, that passes by the marker."""

    def __init__(self, count: int = 3) -> None:
        super().__init__()
        self.A, self.count = weight(M, N), count

    def forward(self, y: Tensor) -> Tensor:
        x, t = torch.zeros(y.shape[0], N), y.abs().mean(1, keepdim=True)
        for _ in range(self.count):
            x = soft(x - 0.2 * (x @ self.A.T - y) @ self.A, t)
            t = 0.5 * t
            x = iterate(x)
        return x


class FirstDiffers(nn.Module):
    """LISTA as printed in the paper: the first layer has no product with x."""

    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.w1, self.w2, self.count = weight(N, M), weight(N, N), count

    def forward(self, y: Tensor) -> Tensor:
        b = y @ self.w1.T
        x: Tensor = iterate(soft(b, 0.1))
        for _ in range(self.count - 1):
            x = iterate(soft(b + x @ self.w2.T, 0.1))
        return x


class Residual(nn.Module):
    """The residual is computed in front of each item, outside of it."""

    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.A = weight(M, N)
        self.layers = nn.ModuleList(nn.Linear(M, N) for _ in range(count))

    def forward(self, y: Tensor) -> Tensor:
        x = torch.zeros(y.shape[0], N)
        for layer in self.layers:
            x = x + layer(y - x @ self.A.T)
        return x


class Activations(nn.Module):
    """What follows each item also precedes the first: the start value goes through the same activation."""

    def __init__(self, count: int = 3) -> None:
        super().__init__()
        self.W, self.layers = weight(M, N), nn.ModuleList(nn.Linear(N, N) for _ in range(count))

    def forward(self, y: Tensor) -> Tensor:
        b = y @ self.W
        x = torch.relu(b)
        for layer in self.layers:
            x = torch.relu(layer(x) + b)
        return x


class CachingLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.A, self.W = weight(M, N), weight(N, N)

    def forward(self, x: Tensor, y: Tensor, cache: dict[str, Tensor]) -> Tensor:
        if "b" not in cache:
            cache["b"] = y @ self.A
        return soft(x @ self.W + cache["b"], 0.1)


class Caching(nn.Module):
    """The first item computes a product that all others read."""

    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CachingLayer() for _ in range(count))

    def forward(self, y: Tensor) -> Tensor:
        x, cache = torch.zeros(y.shape[0], N), dict[str, Tensor]()
        for layer in self.layers:
            x = layer(x, y, cache)
        return x


class Unalike(nn.Module):
    """Items that differ from each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(M, N), nn.Sequential(nn.Linear(N, N), nn.ReLU()), nn.Linear(N, N)])

    def forward(self, y: Tensor) -> Tensor:
        for layer in self.layers:
            y = layer(y)
        return y


class WithMatrix(nn.Module):
    """A matrix and a number shared by the batch are inputs; three outputs, one of them an input."""

    def __init__(self, count: int = 3) -> None:
        super().__init__()
        self.mu, self.count = nn.Parameter(torch.linspace(0.1, 0.2, count)), count

    def forward(self, y: Tensor, H: Tensor, rho: Tensor) -> dict[str, Tensor]:
        x = torch.zeros(y.shape[0], H.shape[1], dtype=y.dtype)
        for k in range(self.count):
            x = iterate(soft(x - self.mu[k] * ((x @ H.T - y) @ H), rho))
        return {"x": x, "residual": y - x @ H.T, "y": y}


class Calls(nn.Module):
    """Any forward over a linear map, a matrix and two lists of layers, for what cannot be exported."""

    def __init__(self, forward: Any) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.eye(4) + torch.rand(4, 4))
        self.linear = nn.Linear(4, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.others = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.function = forward

    def forward(self, y: Tensor) -> Any:
        return self.function(self, y)
