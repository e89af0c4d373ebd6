"""Control and linear algebra: predictive control, Riccati's recursion, inverses and eigenvectors."""

from __future__ import annotations

import torch
from torch import Tensor

from solver_zoo.base import Answer, Entry, States, Unrolled
from solver_zoo.draw import dictionary, normal, per_iteration

HORIZON, N = 10, 6


class PredictiveControl(Unrolled):
    """Box-constrained control over a horizon, condensed; starts from the last plan, moved on by one step."""

    hessian: Tensor
    linear: Tensor

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        A = torch.eye(4) + 0.1 * normal(generator, 4, 4)
        B = normal(generator, 4, 1)
        powers = [torch.linalg.matrix_power(A, i) for i in range(HORIZON + 1)]
        response = torch.zeros(HORIZON, 4, HORIZON)
        for i in range(HORIZON):
            for j in range(i + 1):
                response[i, :, j] = (powers[i - j] @ B)[:, 0]
        free = torch.cat([powers[i + 1] for i in range(HORIZON)])
        response = response.reshape(-1, HORIZON)
        hessian = response.T @ response + 0.1 * torch.eye(HORIZON)
        scale = float(torch.linalg.matrix_norm(hessian, 2))
        self.register_buffer("hessian", hessian / scale)
        self.register_buffer("linear", response.T @ free / scale)
        self.mu = per_iteration(generator, 1.0, iterations)

    def start(self, *inputs: Tensor) -> States:
        plan = inputs[1]
        moved = torch.cat((plan[:, 1:], plan[:, -1:]), dim=1)
        return moved, moved

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (u, ahead), x = states, inputs[0]
        gradient = torch.einsum("ij,bj->bi", self.hessian, ahead) + torch.einsum("ij,bj->bi", self.linear, x)
        following = torch.clamp(ahead - self.mu[k] * gradient, -1.0, 1.0)
        return following, following + 0.5 * (following - u)


class Riccati(Unrolled):
    """P <- Q + A^T P A - A^T P B (r + B^T P B)^-1 B^T P A for systems that come at run time; also the gain."""

    Q: Tensor

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        root = dictionary(generator, 4, 4)
        self.register_buffer("Q", root.T @ root)
        self.r = 0.5

    def start(self, *inputs: Tensor) -> States:
        return (self.Q.expand_as(inputs[0]),)

    def _gain(self, P: Tensor, A: Tensor, B: Tensor) -> Tensor:
        return B.mT @ P @ A / (self.r + B.mT @ P @ B)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (P,), (A, B) = states, inputs
        closed = A - B @ self._gain(P, A, B)
        P = self.Q + A.transpose(1, 2) @ P @ closed
        return ((P + P.transpose(1, 2)) / 2,)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        A, B = inputs
        return states[0], self._gain(states[0], A, B).squeeze(1)


class PendulumShooting(Unrolled):
    """A pendulum's torques over three steps: simulate, go back through the adjoint equations, step, clip."""

    steps, h, damping = 3, 0.25, 0.125

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.mu = per_iteration(generator, 0.5, iterations)

    def start(self, *inputs: Tensor) -> States:
        return (inputs[0].new_zeros(inputs[0].shape[0], self.steps),)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (u,), first = states, inputs[0]
        angle, speed, trace = first[:, 0], first[:, 1], []
        for t in range(self.steps):
            trace.append((angle, speed))
            angle, speed = angle + self.h * speed, speed + self.h * (u[:, t] - torch.sin(angle) - self.damping * speed)
        by_angle, by_speed, gradient = 2 * angle, 0.25 * speed, []
        for t in reversed(range(self.steps)):
            gradient.append(self.h * by_speed + 0.03125 * u[:, t])
            a, s = trace[t]
            by_angle, by_speed = (
                by_angle - self.h * torch.cos(a) * by_speed + 0.25 * a,
                self.h * by_angle + (1 - self.h * self.damping) * by_speed + 0.03125 * s,
            )
        return (torch.clamp(u - self.mu[k] * torch.stack(gradient[::-1], dim=1), min=-2.0, max=2.0),)


class NewtonSchulz(Unrolled):
    """X <- X (2 I - A X), the inverse of a matrix that comes at run time, from A^T / (||A||_1 ||A||_inf)."""

    eye: Tensor

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.register_buffer("eye", torch.eye(N))

    def start(self, *inputs: Tensor) -> States:
        A = inputs[0]
        size = A.abs()
        scale = size.sum(dim=1).amax(dim=1) * size.sum(dim=2).amax(dim=1)
        return (A.transpose(1, 2) / scale[:, None, None],)

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (X,), A = states, inputs[0]
        return (torch.einsum("bij,bjk->bik", X, 2 * self.eye - A @ X),)


class OrthogonalIteration(Unrolled):
    """The two leading eigenvectors of a symmetric matrix that comes at run time, by Gram and Schmidt."""

    def __init__(self, iterations: int, generator: torch.Generator) -> None:
        super().__init__(iterations)
        self.first = torch.nn.Parameter(torch.linalg.qr(normal(generator, N, 2)).Q.T.contiguous())

    def start(self, *inputs: Tensor) -> States:
        return torch.matmul(inputs[0], self.first[0]), torch.matmul(inputs[0], self.first[1])

    def step(self, k: int, states: States, *inputs: Tensor) -> States:
        (v, w), A = states, inputs[0]
        v, w = torch.einsum("bij,bj->bi", A, v), torch.einsum("bij,bj->bi", A, w)
        v = torch.nn.functional.normalize(v, dim=1)
        w = w - torch.einsum("bi,bi->b", v, w).unsqueeze(1) * v
        return v, w / torch.linalg.norm(w, dim=1, keepdim=True)

    def answer(self, states: States, *inputs: Tensor) -> Answer:
        v, w = states
        return torch.stack((v, w), dim=2), torch.einsum("bi,bij,bj->b", v, inputs[0], v)


def _plan(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return 0.3 * normal(generator, batch, 4), torch.clamp(normal(generator, batch, HORIZON), -1, 1)


def _systems(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return 0.9 * torch.eye(4) + 0.1 * normal(generator, batch, 4, 4), normal(generator, batch, 4, 1)


def _pendulum(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return (normal(generator, batch, 2),)


def _regular(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    return (torch.eye(N) + 0.15 * normal(generator, batch, N, N),)


def _symmetric(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
    Q = torch.linalg.qr(normal(generator, batch, N, N)).Q
    return ((Q * torch.tensor([3.0, 2.0, 1.0, 0.6, 0.3, 0.1])) @ Q.mT,)


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "predictive_control", "control", "Richter, Jones, Morari 2012", PredictiveControl, _plan,
        notes={"warm start": "the plan is an input and an output"},
    ),
    Entry("riccati", "control", "Kalman 1960", Riccati, _systems, runtime_matrix=True),
    Entry("pendulum_shooting", "control", "Bryson, Ho 1969", PendulumShooting, _pendulum),
    Entry("newton_schulz", "linear algebra", "Schulz 1933", NewtonSchulz, _regular, iterations=8, runtime_matrix=True),
    Entry(
        "orthogonal_iteration", "linear algebra", "Rutishauser 1969", OrthogonalIteration, _symmetric,
        runtime_matrix=True,
    ),
)  # fmt: skip
