"""A small LISTA network as the C back end would print it, so that the runtime is tested without the compiler.

x_0 = 0, x_{k+1} = soft(W1 y + W2 x_k, theta), y (5,), x (9,), K = 4.
"""

from __future__ import annotations

import numpy as np
import pytest

from unfoldc.kernels.artifact import Artifact, Cost, MemoryPlan, Port
from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.runtime.artifact_folder import Build, read_build, write_build
from unfoldc.runtime.load import open_build
from unfoldc.runtime.machine import processor
from unfoldc.runtime.products import make_product
from unfoldc.runtime.solver import Solver

M, N, K, THETA = 5, 9, 4, 0.1

SOURCE = """
#include "lista.h"
#include <stdint.h>
#if defined(__x86_64__)
uint64_t lista_host_ticks(void) { return __builtin_ia32_rdtsc(); }
#elif defined(__aarch64__)
uint64_t lista_host_ticks(void) { uint64_t t; __asm__ volatile("mrs %%0, cntvct_el0" : "=r"(t)); return t; }
#endif
static const float W1[%(n)d][%(m)d] = {%(w1)s};
static const float W2[%(n)d][%(n)d] = {%(w2)s};
void lista_begin(lista_state *s, const float *y) { s->k = 0; s->y = y; for (int i = 0; i < %(n)d; i++) s->x[i] = 0; }
void lista_iterate(lista_state *s) {
  float z[%(n)d];
  for (int i = 0; i < %(n)d; i++) {
    float a = 0;
    for (int j = 0; j < %(m)d; j++) a += W1[i][j] * s->y[j];
    for (int j = 0; j < %(n)d; j++) a += W2[i][j] * s->x[j];
    float m = (a < 0 ? -a : a) - %(theta)sf;
    z[i] = m < 0 ? 0 : a > 0 ? m : -m;
    if (a != a) z[i] = a;
  }
  for (int i = 0; i < %(n)d; i++) s->x[i] = z[i];
  s->k++;
}
void lista_end(const lista_state *s, float *x) { for (int i = 0; i < %(n)d; i++) x[i] = s->x[i]; }
long lista_host_workspace(void) { return (long)sizeof(lista_state); }
void lista_host_solve(void *w, const void *const *in, void *const *out, long batch, int iterations) {
  lista_state *s = w;
  for (long b = 0; b < batch; b++) {
    lista_begin(s, (const float *)in[0] + %(m)d * b);
    for (int k = 0; k < iterations; k++) lista_iterate(s);
    lista_end(s, (float *)out[0] + %(n)d * b);
  }
}
typedef struct { void *memory; int64_t batch, iterations; const void *const *in; void *const *out; } prepared;
void lista_host_call(const prepared *p) {
  lista_host_solve(p->memory, p->in, p->out, (long)p->batch, (int)p->iterations);
}
typedef struct { void (*keep)(void *); void *answer; prepared call; } bound;
void *lista_host_bound(const bound *const *self, const void *unused) {
  (void)unused;
  lista_host_call(&self[2]->call);
  self[2]->keep(self[2]->answer);
  return self[2]->answer;
}
void lista_host_profile(void *w, const void *const *in, void *const *out, long batch, int iterations, uint64_t *ticks) {
  lista_state *s = w;
  for (long b = 0; b < batch; b++) {
    uint64_t t = lista_host_ticks(), u;
    lista_begin(s, (const float *)in[0] + %(m)d * b);
    u = lista_host_ticks(); ticks[0] += u - t; t = u;
    for (int k = 0; k < iterations; k++) { lista_iterate(s); u = lista_host_ticks(); ticks[1 + k] += u - t; t = u; }
    lista_end(s, (float *)out[0] + %(n)d * b);
    ticks[%(k)d + 1] += lista_host_ticks() - t;
  }
}
"""
HEADER = """
typedef struct { int k; const float *y; float x[%(n)d]; } lista_state;
#define lista_ITERATIONS %(k)d
"""


def soft(z: np.ndarray, theta: float) -> np.ndarray:
    shrunk: np.ndarray = np.sign(z) * np.maximum(np.abs(z) - theta, 0)
    return shrunk


class Lista:
    """The network, its artifact and its answers in float64."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.w1 = (rng.standard_normal((N, M)) * 0.4).astype(np.float32)
        self.w2 = (rng.standard_normal((N, N)) * 0.2).astype(np.float32)

    def solve(self, y: np.ndarray, iterations: int = K) -> np.ndarray:
        x = np.zeros((len(y), N))
        for _ in range(iterations):
            x = soft(y @ self.w1.T.astype(float) + x @ self.w2.T, THETA)
        return x

    def problems(self, batch: int, seed: int = 1) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal((batch, M)).astype(np.float32)

    def artifact(self, **changes: object) -> Artifact:
        numbers = {"m": M, "n": N, "k": K, "theta": THETA, "w1": _c(self.w1), "w2": _c(self.w2)}
        fields: dict[str, object] = {
            "symbol": "lista", "backend": "c", "target": TargetSpec("host", 64, 256, 8), "iterations": K,
            "inputs": (Port("y", "float32", (M,), True),), "outputs": (Port("x", "float32", (N,), True),),
            "sources": {"lista.c": SOURCE % numbers, "lista.h": HEADER % numbers},
            "weights": {"W1": self.w1, "W2": self.w2},
            "memory": MemoryPlan(48, 0, 4 * (N * M + N * N)),
            "cost": Cost(0, (2 * N * (M + N),) * K, 0, (4 * N * (M + N),) * K),
            "notes": {"rolled": np.int64(K)},
        }  # fmt: skip
        return Artifact(**(fields | changes))  # type: ignore[arg-type]


def _c(array: np.ndarray) -> str:
    return ", ".join(f"{float(v)!r}f" for v in array.ravel())


@pytest.fixture(scope="session")
def lista() -> Lista:
    return Lista()


@pytest.fixture(scope="session")
def lista_build(lista: Lista, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The network compiled for this machine, once per test session; tests must not change its folder."""
    folder = tmp_path_factory.mktemp("lista")
    artifact = lista.artifact()
    product = make_product(artifact, "host", "host", folder)
    write_build(Build(artifact, folder, "host", "host", product, processor()))
    return read_build(folder)


@pytest.fixture
def solver(lista_build: Build) -> Solver:
    return open_build(lista_build)
