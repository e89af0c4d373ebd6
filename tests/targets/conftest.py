"""A small solver written by hand against the C API, so that building and running are tested without the compiler.

LISTA: x <- soft(W2 x + W1 y, theta), K times from x = 0, with y of 5 and x of 9 elements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from unfoldc.kernels.artifact import Artifact, Cost, MemoryPlan, Port
from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.targets import find_target

M, N = 5, 9

HEADER = """\
#ifndef SOLVER_H
#define SOLVER_H
#include <stdint.h>
#define solver_ITERATIONS @K
typedef struct solver_state { const float *y; float x[9]; float next[9]; float w1y[9]; int32_t k; } solver_state;
void solver_begin(solver_state *s, const float y[5]);
void solver_iterate(solver_state *s);
void solver_end(const solver_state *s, float x[9]);
void solver_solve(solver_state *s, const float y[5], float x[9]);
#endif
"""

SOLVER = """\
#include "solver.h"
#include "solver_weights.h"

void solver_begin(solver_state *s, const float y[5])
{
    s->y = y;
    s->k = 0;
    for (int32_t i = 0; i < 9; i++) {
        float a = 0.0f;
        for (int32_t j = 0; j < 5; j++) a += solver_W1[i * 5 + j] * y[j];
        s->w1y[i] = a;
        s->x[i] = 0.0f;
    }
}

void solver_iterate(solver_state *s)
{
    for (int32_t i = 0; i < 9; i++) {
        float a = s->w1y[i];
        for (int32_t j = 0; j < 9; j++) a += solver_W2[i * 9 + j] * s->x[j];
        const float m = __builtin_fabsf(a) - solver_theta[0];
        const float r = m < 0.0f ? 0.0f : m;
        s->next[i] = a < 0.0f ? -r : r;
    }
    for (int32_t i = 0; i < 9; i++) s->x[i] = s->next[i];
    s->k++;
}

void solver_end(const solver_state *s, float x[9])
{
    for (int32_t i = 0; i < 9; i++) x[i] = s->x[i];
}

void solver_solve(solver_state *s, const float y[5], float x[9])
{
    solver_begin(s, y);
#pragma GCC unroll 1
    for (int32_t k = 0; k < solver_ITERATIONS; k++) solver_iterate(s);
    solver_end(s, x);
}
"""

WEIGHTS_HEADER = """\
#ifndef SOLVER_WEIGHTS_H
#define SOLVER_WEIGHTS_H
extern const float solver_W1[45];
extern const float solver_W2[81];
extern const float solver_theta[1];
#endif
"""

HOST = """\
#include <stdint.h>
#include "solver.h"
uint64_t solver_host_ticks(void);
long solver_host_workspace(void);
void solver_host_solve(void *workspace, const void *const *inputs, void *const *outputs, long batch, int iterations);
void solver_host_profile(void *workspace, const void *const *inputs, void *const *outputs, long batch, int iterations,
                         uint64_t *ticks);

uint64_t solver_host_ticks(void) { return (uint64_t)__builtin_readcyclecounter(); }
long solver_host_workspace(void) { return (long)sizeof(solver_state); }

void solver_host_solve(void *workspace, const void *const *inputs, void *const *outputs, long batch, int iterations)
{
    uint64_t ticks[solver_ITERATIONS + 2] = {0};
    solver_host_profile(workspace, inputs, outputs, batch, iterations, ticks);
}

void solver_host_profile(void *workspace, const void *const *inputs, void *const *outputs, long batch, int iterations,
                         uint64_t *ticks)
{
    solver_state *s = workspace;
    for (long b = 0; b < batch; b++) {
        uint64_t last = solver_host_ticks(), now;
        solver_begin(s, (const float *)inputs[0] + 5 * b);
        ticks[0] += (now = solver_host_ticks()) - last;
        last = now;
        for (int k = 0; k < iterations; k++) {
            solver_iterate(s);
            ticks[1 + k] += (now = solver_host_ticks()) - last;
            last = now;
        }
        solver_end(s, (float *)outputs[0] + 9 * b);
        ticks[1 + solver_ITERATIONS] += solver_host_ticks() - last;
    }
}
"""


def c_array(name: str, values: np.ndarray) -> str:
    return f"const float {name}[{values.size}] = {{{', '.join(f'{float(v):.9e}f' for v in values.ravel())}}};\n"


@dataclass(frozen=True)
class Lista:
    """The same network in NumPy."""

    W1: np.ndarray
    W2: np.ndarray
    theta: np.ndarray
    iterations: int

    def solve(self, y: np.ndarray, iterations: int | None = None) -> np.ndarray:
        """x after `iterations` for y of shape (5,), in float64."""
        x = np.zeros(N)
        for _ in range(self.iterations if iterations is None else iterations):
            a = self.W2.astype(np.float64) @ x + self.W1.astype(np.float64) @ y
            x = np.sign(a) * np.maximum(np.abs(a) - float(self.theta[0]), 0)
        return x

    def artifact(self, target: str | TargetSpec, **changed_sources: str) -> Artifact:
        """The artifact, with sources replaced by name (dots spelt as two underscores)."""
        spec = find_target(target).spec if isinstance(target, str) else target
        weights = {"W1": self.W1, "W2": self.W2, "theta": self.theta}
        sources = {
            "solver.h": HEADER.replace("@K", str(self.iterations)),
            "solver.c": SOLVER,
            "solver_weights.h": WEIGHTS_HEADER,
            "solver_weights.c": '#include "solver_weights.h"\n'
            + "".join(c_array(f"solver_{name}", value) for name, value in weights.items()),
            "solver_host.c": HOST,
        } | {name.replace("__", "."): text for name, text in changed_sources.items()}
        return Artifact(
            symbol="solver",
            backend="c",
            target=spec,
            iterations=self.iterations,
            inputs=(Port("y", "float32", (M,), True),),
            outputs=(Port("x", "float32", (N,), True),),
            sources=sources,
            weights=weights,
            memory=MemoryPlan(128, 36, 4 * (M * N + N * N + 1)),
            cost=Cost(2 * M * N, (2 * N * N,) * self.iterations, 0, (4 * N * N,) * self.iterations),
        )


@pytest.fixture(scope="session")
def lista() -> Lista:
    rng = np.random.default_rng(0)
    W1 = (0.4 * rng.standard_normal((N, M))).astype(np.float32)
    W2 = (0.2 * rng.standard_normal((N, N))).astype(np.float32)
    return Lista(W1, W2, np.array([0.05], np.float32), iterations=4)


@pytest.fixture(scope="session")
def patched_iterate(lista: Lista) -> Callable[[str, str], Artifact]:
    """The artifact for a target with a statement put at the start of `solver_iterate`."""

    def make(target: str, statement: str) -> Artifact:
        marker = "void solver_iterate(solver_state *s)\n{\n"
        assert marker in SOLVER
        return lista.artifact(target, solver__c=SOLVER.replace(marker, f"{marker}    {statement}\n"))

    return make


@pytest.fixture
def with_sources() -> Callable[[Artifact, Mapping[str, str]], Artifact]:
    def change(artifact: Artifact, sources: Mapping[str, str]) -> Artifact:
        return replace(artifact, sources={**artifact.sources, **sources})

    return change


@pytest.fixture(scope="session")
def problems() -> np.ndarray:
    """(7, 5) float32 inputs."""
    return np.random.default_rng(1).standard_normal((7, M)).astype(np.float32)
