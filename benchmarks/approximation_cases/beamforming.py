"""Hybrid beamforming: unfolded projected gradient ascent with approximated gradients against the exact one.

B = 8 bands, N = 6 users, L = 10 chains, M = 12 antennas, real Gaussian channels, noise 10^(-dB/10), power N B, K = 5.
Exact: both gradients in every iteration, a learned step size each, 10 numbers. Approximated: the gradient of Wa is all
ones, that of Wd is computed in iterations 0, 2 and 4 and reused in 1 and 3; step sizes are matrices. Both are trained
without supervision on the rate, on the same channels, and compared on fresh ones; the exact one from two sizes of its
first step, of which the better counts. Rates are means over bands, of all users together in nats, and per user in bits.

The start from which the publication's own figures come is not known, and the order depends on it. From a random
analogue precoder, the same for all channels, the learned steps do what few scalar steps cannot. From the spectral start
little is left to gain for Wa, and the approximated gradients come close to the exact ones. Multiply-adds count the
exact SVD of that start; one row puts a truncated SVD in its place.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from measuring import check

from unfoldc.unfold_train import Loss, Problems, Settings, Trainer, Unfolded, approximate, unfold
from unfoldc.unfold_train.approximations.blocks import ConstantAnswer, Reuse
from unfoldc.unfold_train.approximations.truncated_svd import TruncatedSvd
from unfoldc.unfold_train.data.beamforming import gaussian_channels, noise_at, partial_identity
from unfoldc.unfold_train.multiply_adds import count_multiply_adds
from unfoldc.unfold_train.solvers.beamforming import HybridBeamforming, SpectralBeamforming

BANDS, USERS, CHAINS, ANTENNAS = 8, 6, 10, 12
ITERATIONS = 5
CLASSICAL_ITERATIONS = 30
STARTS = ("random", "spectral")
FIRST_STEPS = (0.5, 4.0)
UNFOLDED_NATS = 12.77  # of another start: reference for K = 5, ten scalars, at 0 dB

Row = dict[str, Any]


def run(quick: bool) -> tuple[list[Row], list[dict[str, Any]]]:
    """Rows of figures and the checks on them."""
    training, validation, fresh = (
        gaussian_channels(count, seed, BANDS, USERS, ANTENNAS)
        for count, seed in (((200, 1), (50, 2), (50, 3)) if quick else ((1000, 1), (100, 2), (400, 3)))
    )
    rows: list[Row] = []
    checks: list[dict[str, Any]] = []
    levels = (0.0,) if quick else (-5.0, 0.0, 5.0)
    for start, decibels in [(s, d) for s in (STARTS[:1] if quick else STARTS) for d in levels]:
        cheap = _network(training, start, decibels, None)
        cheap = approximate(cheap, {"gradient_Wa": ConstantAnswer(1.0)})
        cheap = approximate(cheap, {"gradient_Wd": Reuse()}, iterations=[1, 3])
        candidates = [(f"exact, first step {m:g}", _network(training, start, decibels, m)) for m in FIRST_STEPS]
        rates = {}
        for name, network in (*candidates, ("approximated", cheap)):
            before = _rate(network, fresh)
            _train(network, training, validation, quick)
            rates[name] = _rate(network, fresh)
            rows.append(_row(f"{name}, {start} start", decibels, network, fresh, before, rates[name]))
        exact = max(rate for name, rate in rates.items() if name != "approximated")
        checks.append(
            check(
                f"beamforming, {start} start, {decibels:g} dB: rate with approximated gradients / exact scalar steps",
                rates["approximated"] / exact,
                1.0,
                at_least=True,
            )
        )
        if decibels == 0.0 and start == "spectral":
            more, found = _classical(training, fresh, exact, cheap)
            rows, checks = rows + more, checks + found
    return rows, checks


def _classical(
    training: Problems, fresh: Problems, unfolded: float, cheap: Unfolded
) -> tuple[list[Row], list[dict[str, Any]]]:
    """Thirty classical iterations from both starts, and the approximated network without an exact SVD, at 0 dB."""
    rows = []
    rates = {}
    for name, kind in (("spectral start", SpectralBeamforming), ("one antenna per chain", HybridBeamforming)):
        long = unfold(
            kind(start=partial_identity(ANTENNAS, CHAINS), noise=noise_at(0.0)),
            iterations=CLASSICAL_ITERATIONS,
            example=_example(training),
        )
        rates[name] = _rate(long, fresh)
        rows.append(_row(f"classical, {CLASSICAL_ITERATIONS} iterations, {name}", 0.0, long, fresh, None, rates[name]))
    truncated = approximate(cheap, {"init_svd": TruncatedSvd(steps=4)})
    rate = _rate(truncated, fresh)
    rows.append(_row("approximated, svd by 4 subspace iterations", 0.0, truncated, fresh, None, rate))
    name = f"beamforming at 0 dB: {ITERATIONS} unfolded iterations"
    over = check(f"{name} / {CLASSICAL_ITERATIONS} classical ones", unfolded / rates["spectral start"], 1.0, True)
    return rows, [over, check(f"{name}, nats", unfolded, UNFOLDED_NATS, at_least=True)]


def _network(training: Problems, start: str, decibels: float, step: float | None) -> Unfolded:
    """With scalar steps of this size at first, or, without one, with a step for each entry."""
    if step is None:
        # A step of ones moves all entries of Wa alike: it starts small.
        steps = {
            "mu_a": torch.full((ANTENNAS, CHAINS), 0.01),
            "mu_d": torch.full((BANDS, CHAINS, USERS), 0.5),
        }
    else:
        steps = {"mu_a": torch.tensor(step), "mu_d": torch.tensor(step)}
    generator = torch.Generator().manual_seed(4)
    Wa = torch.randn(ANTENNAS, CHAINS, generator=generator) / math.sqrt(ANTENNAS)
    kind = SpectralBeamforming if start == "spectral" else HybridBeamforming
    solver = kind(start=Wa, noise=noise_at(decibels), **steps)
    return unfold(solver, iterations=ITERATIONS, learn=["mu_a", "mu_d"], example=_example(training))


def _example(training: Problems) -> dict[str, torch.Tensor]:
    return {"H": training.inputs["H"][:2]}


def _train(network: Unfolded, training: Problems, validation: Problems, quick: bool) -> None:
    settings = Settings(
        steps=60 if quick else 400,
        batch=50,
        rate=0.1,
        rates={"mu_a": 0.1 if network.learned["mu_a"].shape == () else 3.0},
        loss=Loss(supervised=False),
        validate_every=20 if quick else 40,
    )
    Trainer(network, training, validation, settings, progress=False).run()


def _rate(network: Unfolded, problems: Problems) -> float:
    """In nats."""
    return -Loss(supervised=False).errors(network, problems)[-1]


def _row(name: str, decibels: float, network: Unfolded, fresh: Problems, before: float | None, after: float) -> Row:
    counted = count_multiply_adds(network, {"H": fresh.inputs["H"][:1]})
    return {
        "case": "beamforming",
        "name": name,
        "decibels": decibels,
        "iterations": network.iterations,
        "learned_numbers": network.learned_numbers,
        "untrained_nats": before,
        "nats": after,
        "bits_per_user": after / math.log(2) / USERS,
        "multiply_adds": counted.total,
        "multiply_adds_of_iterations": sum(counted.iterations),
    }
