"""Error against cost: every approximation of a linear solve, untrained and trained, on one detector.

Box-ADMM with its own rho in each iteration, K = 5, 16-QAM at 14 dB, the Gram matrix and the matched filter as inputs.
The error is the mean squared error of an entry of the estimate on fresh channels, the cost the multiply-adds of a whole
solve as they run, elementwise products included. Learned are rho, the relaxation, and in an approximated network the
coefficients of the approximation, a number each. Exact is shown twice: with one rho for all iterations, so that the
matrix is factored once, and with one for each, so that it is factored in each iteration. Approximations of an inverse
run in the same method written with v.inverse. Every approximation is in place in all iterations; one that starts warm
takes its first answer from a cold one in `begin`, which is counted.

`number` is the worst value of the condition for convergence over the fresh problems and iterations before training,
`broken` the share of the problems that break it there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from measuring import check
from torch import Tensor

from unfoldc.unfold_train import Problems, Settings, Trainer, Unfolded, approximate, unfold
from unfoldc.unfold_train.approximating import call_sites
from unfoldc.unfold_train.approximations import (
    Approximation,
    Chebyshev,
    ConjugateGradient,
    Diagonal,
    GaussSeidel,
    Jacobi,
    Neumann,
    NewtonSchulz,
)
from unfoldc.unfold_train.data.mimo import BOX, Uplink
from unfoldc.unfold_train.multiply_adds import MultiplyAdds, count_multiply_adds
from unfoldc.unfold_train.solvers.box_admm import GramBoxAdmm
from unfoldc.unfold_train.values import View

Row = dict[str, Any]
RATE, BATCH = 0.07, 64
RHO = 0.2  # the best for the exact solver at K = 5
SEEDS = {"error and cost: training": 1, "error and cost: validation": 2, "error and cost: fresh": 3}


class InverseBoxAdmm(GramBoxAdmm):
    """GramBoxAdmm with an inverse and a product in the place of the solve; its call site is "inverse"."""

    def step(self, v: View, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """As GramBoxAdmm's."""
        z, u = state
        x = (v.inverse(v.M) @ (v.f + v.rho * (z - u)).unsqueeze(-1)).squeeze(-1)
        moved = u + v.relaxation * x + (1 - v.relaxation) * z
        z = torch.minimum(torch.maximum(moved, -v.box), v.box)
        return z, moved - z


@dataclass(frozen=True)
class Size:
    """An uplink, iterations, numbers of problems, and steps of training."""

    uplink: Uplink
    iterations: int
    training: int
    validation: int
    fresh: int
    steps: int


FULL = Size(Uplink(128, 32, 14.0), iterations=5, training=3000, validation=200, fresh=1500, steps=300)
QUICK = Size(Uplink(16, 4, 14.0), iterations=3, training=500, validation=100, fresh=400, steps=60)


def family() -> Iterator[tuple[str, int, Approximation]]:
    """Every approximation of a solve or an inverse at several orders: its family, its order and itself."""
    yield "Diagonal", 0, Diagonal(learn="scalar")
    for p in (1, 2, 3, 4):
        yield "Neumann", p, Neumann(order=p, learn="scalar")
        yield "Jacobi, damped", p, Jacobi(sweeps=p, damping=0.8, learn="scalar")
        yield "Chebyshev", p, Chebyshev(order=p, learn="scalar")
        yield "conjugate gradient", p, ConjugateGradient(steps=p, learn="scalar")
    for p in (1, 2, 3):
        yield "Neumann, warm", p, Neumann(order=p, warm_start=True, learn="scalar")
        yield "Chebyshev, warm", p, Chebyshev(order=p, warm_start=True, learn="scalar")
        yield "conjugate gradient, warm", p, ConjugateGradient(steps=p, warm_start=True, learn="scalar")
    for p in (1, 2):
        yield "Gauss-Seidel", p, GaussSeidel(sweeps=p, learn="scalar")
        yield "Gauss-Seidel, warm", p, GaussSeidel(sweeps=p, warm_start=True, learn="scalar")
        yield "Newton-Schulz", p, NewtonSchulz(steps=p, start="diagonal", learn="scalar")
    yield "Newton-Schulz, warm", 1, NewtonSchulz(1, True, first_steps=1, start="diagonal", learn="scalar")


def quick_family() -> Iterator[tuple[str, int, Approximation]]:
    """Three of them: one cold, one warm, one of an inverse."""
    wanted = (("Neumann", 2), ("Neumann, warm", 2), ("Newton-Schulz", 1))
    yield from (entry for entry in family() if entry[:2] in wanted)


def run(quick: bool) -> tuple[list[Row], list[Row]]:
    """Rows and checks; `quick` takes three approximations, a small uplink and little training."""
    size = QUICK if quick else FULL
    data = tuple(
        problems(size.uplink, count, seed)
        for count, seed in zip((size.training, size.validation, size.fresh), SEEDS.values(), strict=True)
    )
    rows = [exact_row(size, data, tied) for tied in (True, False)]
    for name, order, approximation in quick_family() if quick else family():
        rows.append(approximated_row(size, data, name, order, approximation))
    return rows, checks_of(rows, quick)


def problems(uplink: Uplink, count: int, seed: int) -> Problems:
    """Gram matrices and matched filters, each with a channel of its own, and the symbols that were sent."""
    drawn = uplink.draw(count, seed)
    return Problems({"f": drawn.matched_filter, "G": drawn.gram}, drawn.truth)


def exact_row(size: Size, data: tuple[Problems, ...], tied: bool) -> Row:
    """The exact solver, factored once (`tied`) or in each iteration."""
    network = unfolded(size, data[-1], GramBoxAdmm(box=BOX, rho=RHO), tied)
    name = "exact, factored once" if tied else "exact, factored in each iteration"
    return {"name": name, "family": "exact", "order": None, "options": {}, **figures(network, data, size)}


def approximated_row(
    size: Size, data: tuple[Problems, ...], name: str, order: int, approximation: Approximation
) -> Row:
    """The solver with an approximation in all iterations."""
    operation = "solve" if "solve" in approximation.operations else "inverse"
    solver = (GramBoxAdmm if operation == "solve" else InverseBoxAdmm)(box=BOX, rho=RHO)
    network = approximate(unfolded(size, data[-1], solver, tied=False), {operation: approximation})
    return {
        "name": f"{name}, {order}",
        "family": name,
        "order": order,
        "operation": operation,
        "approximation": repr(approximation),
        "options": approximation.options,
        **condition(network, data[-1]),
        **figures(network, data, size),
    }


def unfolded(size: Size, like: Problems, solver: GramBoxAdmm, tied: bool) -> Unfolded:
    """K iterations that learn rho and the relaxation."""
    example = {key: value[:2] for key, value in like.inputs.items()}
    return unfold(
        solver,
        iterations=size.iterations,
        learn=["rho", "relaxation"],
        tied=["rho"] if tied else False,
        example=example,
    )


def condition(network: Unfolded, fresh: Problems) -> Row:
    """The condition for convergence at its worst."""
    found = [
        visit.approximation.convergence(*visit.arguments)
        for visit in call_sites(network, few(fresh, 200))
        if visit.approximation is not None
    ]
    worst = max((c for c in found if c is not None), key=lambda c: c.number)
    return {"condition": worst.name, "number": worst.number, "limit": worst.limit, "broken": worst.broken}


def few(given: Problems, count: int) -> Mapping[str, Tensor]:
    """The inputs of the first problems."""
    return {name: value[:count] for name, value in given.inputs.items()}


def figures(network: Unfolded, data: tuple[Problems, ...], size: Size) -> Row:
    """Errors of the last iterate before and after training, and multiply-adds."""
    training, validation, fresh = data
    settings = Settings(
        steps=size.steps,
        batch=BATCH,
        rate=RATE,
        schedule="sequential then end to end",
        validate_every=max(size.steps // 10, 1),
    )
    trained = copy.deepcopy(network)
    outcome = Trainer(trained, training, validation, settings, progress=False).run()
    return {
        "multiply_adds": plain(count_multiply_adds(trained, fresh.inputs)),
        "untrained": settings.loss.errors(network, fresh)[-1],
        "trained": settings.loss.errors(trained, fresh)[-1],
        "seconds": round(outcome.seconds, 1),
    }


def plain(cost: MultiplyAdds) -> Row:
    """As plain data."""
    return {"begin": cost.begin, "iterations": list(cost.iterations), "end": cost.end, "total": cost.total}


def checks_of(rows: list[Row], quick: bool) -> list[Row]:
    """What must hold of the figures."""
    by_name = {row["name"]: row for row in rows}
    once, each, *others = rows
    cold, warm = by_name["Neumann, 2"], by_name["Neumann, warm, 2"]
    title = "error and cost"
    checks = [
        check(f"{title}: trained error / untrained, the worst", max(map(gain, others)), 1.0, False),
        check(f"{title}: Neumann, 2, untrained: warm / cold", warm["untrained"] / cold["untrained"], 0.8, False),
        check(f"{title}: 2 warm Neumann terms: gap to trained exact", closed(warm, each), 0.6 if quick else 0.95, True),
    ]
    if quick:
        return checks
    first = by_name["Neumann, warm, 1"]
    return [
        *checks,
        check(f"{title}: 2 warm Neumann terms: cost / exact in each iteration", cost(warm) / cost(each), 0.35, False),
        check(f"{title}: 1 warm Neumann term: error / untrained exact", first["trained"] / once["untrained"], 1, False),
        check(f"{title}: 1 warm Neumann term: cost / exact once", cost(first) / cost(once), 0.5, False),
    ]


def gain(row: Row) -> float:
    """The error after training relative to that before."""
    ratio: float = row["trained"] / row["untrained"]
    return ratio


def closed(row: Row, exact: Row) -> float:
    """The share of the gap to trained exact that training has closed."""
    share: float = (row["untrained"] - row["trained"]) / (row["untrained"] - exact["trained"])
    return share


def cost(row: Row) -> int:
    """Multiply-adds of a whole solve."""
    total: int = row["multiply_adds"]["total"]
    return total
