"""The structures together: in the pipeline, for batches, and what reaches `begin`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.cost import cost
from unfoldc.kernels.passes.recognise_structure import recognise_structure
from unfoldc.kernels.pipeline import PASSES, load_program
from unfoldc.kernels.printers.reference import iterate_outputs
from unfoldc.kernels.program import Program

M, N, K = 6, 24, 5
A = np.random.default_rng(8).standard_normal((M, N)) / np.sqrt(M)
I = np.eye(N)  # noqa: E741
MU = 1 / np.linalg.norm(A, 2) ** 2
TALL = np.random.default_rng(9).standard_normal((3 * N, N)) / np.sqrt(3 * N)


def lista(g: Any, tied: bool) -> str:
    """x <- soft(W2 x + W1 y) with W2 = I - mu_k AᵀA."""
    y, x = g.input("y", "batch", M), g.input("x", "batch", N)
    for g.k in range(K):
        mu = MU * (1 if tied else 1 - 0.1 * g.k)
        w1, w2 = (g.weight(f"{n}{'' if tied else g.k}", w) for n, w in (("W1", mu * A), ("W2", I - mu * A.T @ A)))
        x = g.soft(g("Add", g("MatMul", x, w2), g("MatMul", y, w1)), g.weight("theta", 0.02))
    return str(x)


def gradient(g: Any) -> str:
    """x <- tanh(x - mu_k Aᵀ(A x - y))."""
    y, x = g.input("y", "batch", 3 * N), g.input("x", "batch", N)
    a, turned = g.weight("A", TALL), g.weight("A'", TALL.T)
    for g.k in range(K):
        step = g("MatMul", g("Sub", g("MatMul", x, turned), y), a)
        x = g("Tanh", g("Sub", x, g("Mul", g.weight(f"mu{g.k}", 0.2 + 0.1 * g.k), step)))
    return str(x)


def admm(g: Any) -> str:
    """x <- (AᵀA + rho I)⁻¹ (Aᵀy + rho_k (z - u)); z <- soft(x + u); u <- u + x - z."""
    y, z = g.input("y", "batch", M), g.input("z", "batch", N)
    u, a, w = z, g.weight("A", A), g.weight("W", np.linalg.inv(A.T @ A + 0.5 * I))
    for g.k in range(K):
        right = g("Add", g("MatMul", y, a), g("Mul", g.weight(f"rho{g.k}", 0.3 + 0.1 * g.k), g("Sub", z, u)))
        x = g("MatMul", right, w)
        z = g.soft(g("Add", x, u), g.weight("theta", 0.02))
        u = g("Sub", g("Add", u, x), z)
    return str(z)


def total_variation(g: Any) -> str:
    """x <- x - Dᵀ clip(D x) / 4 - (x - y) / 10."""
    y = x = g.input("y", "batch", N)
    d, turned = g.weight("D", np.diff(I, axis=0)), g.weight("D'", np.diff(I, axis=0).T)
    for g.k in range(K):
        smooth = g("Mul", g.weight("quarter", 0.25), g("MatMul", g("Tanh", g("MatMul", x, turned)), d))
        x = g("Sub", g("Sub", x, smooth), g("Mul", g.weight("tenth", 0.1), g("Sub", x, y)))
    return str(x)


def regularised(g: Any) -> str:
    """x <- tanh((G + rho_k I) x) with a matrix per problem."""
    G, x = g.input("G", "batch", N, N), g.input("x", "batch", N)
    axis = g.weight("-1", [-1], "int64")
    for g.k in range(K):
        M = g("Add", G, g.weight(f"R{g.k}", (0.1 + 0.1 * g.k) * I))
        x = g("Tanh", g("Squeeze", g("MatMul", M, g("Unsqueeze", x, axis)), axis))
    return str(x)


# The model, the share of the operations of an iteration that is left, and the products with y that `begin` gets.
SOLVERS: dict[str, tuple[Any, float, int]] = {
    "lista": (lambda g: lista(g, tied=True), 0.75, 1),
    "lista with step sizes": (lambda g: lista(g, tied=False), 0.75, 1),
    "gradient": (gradient, 0.25, 1),
    "admm": (admm, 0.75, 1),
    "total variation": (total_variation, 0.25, 0),
    "regularised": (regularised, 0.75, 0),
}


def without(program: Program) -> Program:
    for pass_ in PASSES:
        program = program if pass_ is recognise_structure else pass_(program)
    return program


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_are_recognised_whatever_the_batch(workshop: Any, name: str) -> None:
    """`load_program` reads a model for 1, 2 and 7 problems too and refuses it if these differ."""
    make, share, hoisted = SOLVERS[name]
    g = workshop.Graph()
    model, program = load_program(workshop.save(g.model(make(g))))
    plain = without(model.program)
    assert cost(program).iterate_flops[0] < share * cost(plain).iterate_flops[0]
    assert [n.operator for n in program.begin].count("MatMul") == hoisted
    types = [program.types[i] for i in program.inputs]
    rng = np.random.default_rng(1)
    inputs = {i: rng.standard_normal(t.shape).astype(t.dtype) for i, t in zip(program.inputs, types, strict=True)}
    assert all(port.batched for port in model.inputs)
    for found, wanted in zip(iterate_outputs(program, inputs), iterate_outputs(plain, inputs), strict=True):
        assert np.linalg.norm(found[0] - wanted[0]) <= 3e-6 * np.linalg.norm(wanted[0])


def test_trained_matrices_stay_as_they_are(workshop: Any) -> None:
    g = workshop.Graph()
    y, x, rng = g.input("y", "batch", M), g.input("x", "batch", N), np.random.default_rng(2)
    for g.k in range(K):
        w = g.weight(f"W{g.k}", I - MU * A.T @ A + 0.01 * rng.standard_normal((N, N)))
        x = g("Tanh", g("Add", g("MatMul", x, w), g("MatMul", y, g.weight("B", A))))
    _, program = load_program(workshop.save(g.model(x)))
    assert [program.constants[n].shape for n in program.segments[0].stacked] == [(K, N, N)]
