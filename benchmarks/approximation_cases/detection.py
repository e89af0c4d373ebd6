"""Detection of 16-QAM symbols with many antennas: box-ADMM and one-shot LMMSE with approximated solves.

Error is the mean squared error of an entry of the estimate in real form, half of that of a complex symbol of energy 1,
on fresh channels. A warm-started network has a cold series in its first iteration, so that nothing but p products with
the matrix in each of the K iterations takes the place of the factorisation and the substitutions.

Costs are multiply-adds after the Gram matrix and the matched filter. "counted" is all that the network runs, in real
form, elementwise products included. "real" and "complex" are of the solves alone by formula, with n = 2 users real or
users complex unknowns: n³/6 for a factorisation, n² for its two substitutions, p n² for p products. In complex numbers
a factorisation is cheaper beside a product; the goals are demanded of that ratio too.

Learned are rho, the relaxation and the coefficients of the series. The coefficients give the approximated network more
freedom than the exact one has, so that it may end below it: more than 100 % of the gap. Two cold terms, far worse than
two warm ones untrained, end level with them when trained. What is trained is the mean squared error: the order of the
networks by symbol error rate, which the rows give too, may be another.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import check

import unfoldc
from unfoldc.unfold_train import Compensation, Input, Problems, Settings, Trainer, Unfolded, unfold
from unfoldc.unfold_train.approximating import approximate
from unfoldc.unfold_train.approximations import Neumann
from unfoldc.unfold_train.approximations.iteration_matrix import Learn
from unfoldc.unfold_train.compensating import compensate
from unfoldc.unfold_train.data.mimo import BOX, Uplink, symbol_error_rate
from unfoldc.unfold_train.solvers.box_admm import GramBoxAdmm, Lmmse

Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """An uplink, iterations, numbers of problems, and how to train."""

    uplink: Uplink
    iterations: int
    training: int
    fresh: int
    steps: int
    gap: float
    """The share of the gap that training must close."""


FULL = Size(Uplink(128, 32, 14.0), iterations=5, training=4000, fresh=2000, steps=800, gap=0.95)
QUICK = Size(Uplink(32, 8, 14.0), iterations=4, training=1000, fresh=500, steps=200, gap=0.9)
VALIDATION = 500
RATE, BATCH = 0.07, 64
RHO = 0.2  # the best for the exact solver at K = 5 among .05, .1, .15, .2, .25, .3, .4


def run(quick: bool) -> tuple[list[Row], list[Row]]:
    """Rows and checks; `quick` takes a smaller uplink and trains for a few seconds."""
    size = QUICK if quick else FULL
    parts = [box_admm(size), *(one_shot(Uplink(64, 16, snr), quick) for snr in ((10.0,) if quick else (16.0, 10.0)))]
    return [row for rows, _ in parts for row in rows], [c for _, checks in parts for c in checks]


def box_admm(size: Size) -> tuple[list[Row], list[Row]]:
    """One warm-started product with one rho for all iterations, and two, warm or cold, with a rho for each."""
    data = [problems(size.uplink, n, seed) for n, seed in ((size.training, 1), (VALIDATION, 2), (size.fresh, 3))]
    once = figures(size, data, order=1, warm=True, tied=True)
    each = figures(size, data, order=2, warm=True, tied=False)
    cold = figures(size, data, order=2, warm=False, tied=False)
    rows = [
        {
            "case": f"box-ADMM {name(size.uplink)}, K = {size.iterations}",
            "variant": variant,
            **row(found, data[-1]),
            **costs,
        }
        for variant, found, costs in (
            ("1 warm term, exact factored once", once, cost(size, 1, factorisations=1)),
            ("2 warm terms, exact factored in each iteration", each, cost(size, 2, size.iterations)),
            ("2 cold terms, exact factored in each iteration", cold, cost(size, 2, size.iterations)),
        )
    ]
    title = f"box-ADMM {name(size.uplink)}"
    checks = [
        check(f"{title}, 1 warm term: gap to untrained exact closed", once.gap_closed("exact"), size.gap, True),
        check(f"{title}, 2 warm terms: gap to trained exact", each.gap_closed("exact and trained"), size.gap, True),
        check(f"{title}, 2 terms, untrained: error, warm / cold", untrained(each) / untrained(cold), 0.6, False),
    ]
    if size is FULL:  # a factorisation of a small matrix costs less than the products
        for variant, r, goal in (("1 warm term, exact once", rows[0], 0.5), ("2 warm terms", rows[1], 0.35)):
            for kind in ("counted", "real", "complex"):
                checks.append(check(f"{title}, {variant}: cost, {kind}", r[f"ratio_{kind}"], goal, at_least=False))
        for r, found in zip(rows, (once, each, cold), strict=True):
            r["instructions"] = [instructions(network, data[-1]) for network in (found.network, found.exact_network)]
            r["ratio_instructions"] = r["instructions"][0] / r["instructions"][1]
            checks.append(check(f"{title}, {r['variant']}: instructions", r["ratio_instructions"], 1.0, at_least=False))
    return rows, checks


def figures(size: Size, data: list[Problems], order: int, warm: bool, tied: bool) -> Compensation:
    """The four figures of one approximation; `tied`: one rho for all iterations, so that exact is factored once."""
    training, validation, fresh = data
    network = unfold(
        GramBoxAdmm(box=BOX, rho=RHO),
        iterations=size.iterations,
        learn=["rho", "relaxation"],
        tied=["rho"] if tied else False,
        example={key: value[:2] for key, value in fresh.inputs.items()},
    )
    settings = Settings(
        steps=size.steps,
        batch=BATCH,
        rate=RATE,
        schedule="sequential then end to end",
        validate_every=max(size.steps // 10, 1),
    )
    network = with_neumann(network, order, warm)
    return compensate(network, training, fresh=fresh, validation=validation, settings=settings, progress=False)


def with_neumann(network: Unfolded, order: int, warm: bool) -> Unfolded:
    """Learned Neumann series in all iterations, warm-started from the second on."""
    found: Unfolded = approximate(network, {"solve": Neumann(order=order, learn="scalar")})
    if not warm:
        return found
    later = range(1, network.iterations)
    warmed: Unfolded = approximate(
        found, {"solve": Neumann(order=order, warm_start=True, learn="scalar")}, iterations=later
    )
    return warmed


def problems(uplink: Uplink, count: int, seed: int) -> Problems:
    """Gram matrices, matched filters and symbols, drawn 500 at a time: the channels themselves are large."""
    parts = [uplink.draw(min(500, count - i), seed * 100_000 + i) for i in range(0, count, 500)]
    inputs = {"f": torch.cat([p.matched_filter for p in parts]), "G": torch.cat([p.gram for p in parts])}
    return Problems(inputs, torch.cat([p.truth for p in parts]))


def untrained(found: Compensation) -> float:
    """The error of the approximated network as it was given, after the last iteration."""
    return found.figure("approximated").errors[-1]


def row(found: Compensation, fresh: Problems) -> Row:
    """The errors of the four networks after each iteration, symbol error rates, and what was counted."""
    counted = {f.name: f.multiply_adds.total for f in found.figures}
    return {
        "errors": {f.name: list(f.errors) for f in found.figures},
        "symbol_error_rates": {
            "exact": symbol_errors(classical(found.exact_network), fresh),
            "exact and trained": symbol_errors(found.exact_network, fresh),
            "approximated and trained": symbol_errors(found.network, fresh),
        },
        "gap_to_exact": found.gap_closed("exact"),
        "gap_to_trained_exact": found.gap_closed("exact and trained"),
        "seconds": [round(o.seconds, 1) for o in (found.exact_outcome, found.outcome) if o is not None],
        "multiply_adds_counted": counted,
        "ratio_counted": counted["approximated and trained"] / counted["exact and trained"],
    }


def classical(network: Unfolded) -> Unfolded:
    """The solver of a network with nothing learned and nothing approximated."""
    return unfold(network.solver, iterations=network.iterations, example=network.example)


def instructions(network: Unfolded, fresh: Problems) -> int:
    """Of one solve on the emulated Cortex-M4."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detector.onnx"
        unfoldc.export_onnx(network.frozen(), tuple(value[:2] for value in fresh.inputs.values()), path)
        solver = unfoldc.compile(path, target="stm32f407", backend="c")
    counted = solver.profile({key: value[:1].numpy() for key, value in fresh.inputs.items()}).instructions
    assert counted is not None
    return counted


def cost(size: Size, products: int, factorisations: int) -> Row:
    """Multiply-adds of the solves by formula, of the approximated and the exact network, and their ratios."""
    found: Row = {}
    for kind, n in (("real", 2 * size.uplink.users), ("complex", size.uplink.users)):
        cheap = size.iterations * products * n**2
        full = factorisations * n**3 / 6 + size.iterations * n**2
        found |= {f"multiply_adds_{kind}": [cheap, round(full)], f"ratio_{kind}": cheap / full}
    return found


def one_shot(uplink: Uplink, quick: bool) -> tuple[list[Row], list[Row]]:
    """LMMSE by a cold Neumann series of order 2 from the diagonal; reported with its symbol error rates."""
    training, validation, fresh = (
        received(uplink, n, seed) for n, seed in ((500 if quick else 3000, 4), (300, 5), (1000 if quick else 4000, 6))
    )
    exact = unfold(
        Lmmse(H=Input(), noise=uplink.noise),
        iterations=1,
        learn=["noise"],
        example={key: value[:2] for key, value in fresh.inputs.items()},
    )
    untrained = symbol_errors(exact, fresh)
    rows = []
    forms: tuple[Learn, ...] = ("scalar",) if quick else ("scalar", "diagonal", "matrix")
    for learn in forms:
        network = approximate(exact, {"solve": Neumann(order=2, learn=learn)})
        before = symbol_errors(network, fresh)
        settings = Settings(steps=60 if quick else 300, batch=128, rate=0.05, validate_every=30)
        Trainer(network, training, validation, settings, progress=False).run()
        after = symbol_errors(network, fresh)
        rows.append(
            {
                "case": f"one-shot LMMSE {name(uplink)}",
                "variant": f"Neumann of order 2, {learn} coefficients",
                "symbol_error_rates": {"exact": untrained, "approximated": before, "approximated and trained": after},
                "gap_to_exact": (before - after) / (before - untrained),
                **one_shot_cost(uplink, learn),
            }
        )
    title = f"one-shot LMMSE {name(uplink)}, scalar coefficients"
    checks = [
        check(
            f"{title}: gap in symbol error rate closed", rows[0]["gap_to_exact"], 0.8 if quick else 0.85, at_least=True
        )
    ]
    checks.append(check(f"{title}: cost / Cholesky solve, complex", rows[0]["ratio_complex"], 0.55, at_least=False))
    return rows, checks


def one_shot_cost(uplink: Uplink, learn: str) -> Row:
    """Ratio of two products, and three with matrices that were learned, to a factorisation and its substitutions."""
    products = 5 if learn == "matrix" else 2
    sizes = {"real": 2 * uplink.users, "complex": uplink.users}
    return {f"ratio_{kind}": products * n**2 / (n**3 / 6 + n**2) for kind, n in sizes.items()}


def received(uplink: Uplink, count: int, seed: int) -> Problems:
    """What the antennas received, with the channels."""
    found = uplink.draw(count, seed)
    return Problems({"y": found.y, "H": found.H}, found.truth)


@torch.no_grad()
def symbol_errors(network: Unfolded, fresh: Problems) -> float:
    """The symbol error rate on fresh problems."""
    assert fresh.truth is not None
    return symbol_error_rate(network(**fresh.inputs), fresh.truth)


def name(uplink: Uplink) -> str:
    """Antennas × users at the SNR."""
    return f"{uplink.antennas}×{uplink.users} at {uplink.snr:g} dB"
