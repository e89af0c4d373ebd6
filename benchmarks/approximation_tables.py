"""The tables of docs/approximations.md, from benchmarks/results/approximations.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from unfoldc.unfold_train.approximations import (
    NewtonReciprocal,
    NewtonSqrt,
    PolynomialExp,
    PolynomialLog,
    PolynomialSigmoid,
    PolynomialTanh,
)

Row = dict[str, Any]


def tables_text(result: Row) -> str:
    """All tables, of the cases that were measured, and the goals that were missed."""
    lines = [
        f"By `benchmarks/approximations.py` on {result['date']}, {result['machine']['processor']}, one thread, PyTorch "
        f"{result['versions']['torch']}.",
    ]
    for case, table in TABLES.items():
        found = result["rows"].get(case)
        if found is None:
            continue
        lines += ["", *(table(found["rows"]) if not found["failed"] else [f"{case} failed: {found['failed']}"])]
    lines += ["", *elementwise()]
    missed = [c for c in result["checks"] if not c["met"]]
    lines += ["", f"Goals met: {len(result['checks']) - len(missed)} of {len(result['checks'])}."]
    lines += [f"Not met: {c['name']}: {c['measured']:.3g}, goal {c['goal']}." for c in missed]
    return "\n".join(lines)


def elementwise() -> list[str]:
    """The defaults of the elementwise approximations; these figures are properties of the polynomials."""
    lines = [
        "Elementwise functions by default: the range, the largest absolute error on it, multiply-adds for each number "
        'without the test of the range, which is one more with outside="nan".',
        "",
        "| approximation | range | error | multiply-adds |",
        "|---|---|---|---|",
    ]
    for kind in (PolynomialExp, PolynomialLog, PolynomialTanh, PolynomialSigmoid, NewtonSqrt, NewtonReciprocal):
        found = kind()
        degree, value = next(iter(found.options.items()))
        name = f"`{kind.__name__}({degree}={value})`"
        lines.append(f"| {name} | {found.low:g} to {found.high:g} | {found.error:.1e} | {found.multiply_adds_each} |")
    return lines


def error_and_cost(rows: list[Row]) -> list[str]:
    """A row for each family, a column for each order: the error untrained → trained, and the cost."""
    families = dict.fromkeys(row["family"] for row in rows if row["family"] != "exact")
    exact = [f"{row['name']} {_arrow(row)} at {_thousands(row)}" for row in rows if row["family"] == "exact"]
    lines = [
        "Mean squared error of the detector in the plot, untrained → trained, and thousands of multiply-adds; "
        f"{'; '.join(exact)}. *Holds*: the share of the problems in which the condition for convergence holds.",
        "",
        "| approximation | order or steps 1 | 2 | 3 | 4 | holds |",
        "|---|---|---|---|---|---|",
    ]
    for family in families:
        found = {row["order"]: row for row in rows if row["family"] == family}
        cells = [f"{_arrow(found[p])} at {_thousands(found[p])}" if p in found else "" for p in (1, 2, 3, 4)]
        if 0 in found:
            cells[0] = f"{_arrow(found[0])} at {_thousands(found[0])}"
        share = 100 * (1 - max(row["broken"] for row in found.values()))
        lines.append(f"| {family} | {' | '.join(cells)} | {share:.0f} % |")
    return lines


def linear_solves(rows: list[Row]) -> list[str]:
    """Sizes against methods."""
    methods = list(dict.fromkeys(row["approximation"].partition("(")[0] for row in rows))
    sizes = dict.fromkeys((row["antennas"], row["users"]) for row in rows)
    lines = [
        "Relative error of A⁻¹b for A = HᴴH + 0.1 K I with K users, median of channels; in brackets the share of them "
        "in which the condition for convergence is broken. All start from the diagonal, conjugate gradients from zero.",
        "",
        f"| antennas × users | {' | '.join(_options(row) for row in rows[: len(methods)])} |",
        "|---|" + "---|" * len(methods),
    ]
    for antennas, users in sizes:
        found = [row for row in rows if (row["antennas"], row["users"]) == (antennas, users)]
        cells = [f"{row['error']:.2g} ({100 * (row['broken'] or 0):.0f} %)" for row in found]
        lines.append(f"| {antennas} × {users} | {' | '.join(cells)} |")
    return lines


def detection(rows: list[Row]) -> list[str]:
    """Gaps and costs."""
    lines = [
        "Detection of 16-QAM symbols: the share of the gap between approximated and exact that training closes (more "
        "than 100 %: it ends below), multiply-adds of its solves beside Cholesky solves in complex numbers, "
        "instructions on the Cortex-M4 beside those of the exact solver, and the rate of symbols decided wrongly. For "
        "box-ADMM the gap is one of mean squared errors, which training minimises; the symbol errors that remain may "
        "be more than the exact solver's.",
        "",
        "| detector | approximation | gap to exact | to trained exact | cost | instructions "
        "| wrong: exact | trained | here |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        gaps = [f"{100 * row[key]:.0f} %" if key in row else "" for key in ("gap_to_exact", "gap_to_trained_exact")]
        instructions = f"{row['ratio_instructions']:.2f}" if "ratio_instructions" in row else ""
        names = ("exact", "exact and trained", "approximated and trained")
        wrong = [f"{rates[n]:.2g}" if n in (rates := row["symbol_error_rates"]) else "" for n in names]
        cells = (row["case"], row["variant"], *gaps, f"{row['ratio_complex']:.2f}", instructions, *wrong)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def robust_pca(rows: list[Row]) -> list[str]:
    """Errors and costs."""
    lines = [
        "Robust PCA, 16 updates of two factors: the relative error of the low-rank part, worst of fresh problems.",
        "",
        "| problems | inverses | error | multiply-adds, millions | of the inverses, thousands |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        own = row.get("multiply_adds_inverses")
        share = "" if own is None else f"{own / 1e3:.1f}"
        lines.append(
            f"| {row['case']} | {row['variant']} | {row['worst']:.2g} | {row['multiply_adds'] / 1e6:.1f} | {share} |"
        )
    return lines


def beamforming(rows: list[Row]) -> list[str]:
    """Rates and costs."""
    lines = [
        "Hybrid beamforming by projected gradients: the sum rate on fresh channels.",
        "",
        "| gradients | dB | iterations | nats, untrained | nats | multiply-adds, thousands |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        before = "" if row["untrained_nats"] is None else f"{row['untrained_nats']:.2f}"
        cost = f"{row['multiply_adds'] / 1e3:.0f}"
        lines.append(
            f"| {row['name']} | {row['decibels']:g} | {row['iterations']} | {before} | {row['nats']:.2f} | {cost} |"
        )
    return lines


TABLES: dict[str, Callable[[list[Row]], list[str]]] = {
    "error_and_cost": error_and_cost,
    "linear_solves": linear_solves,
    "detection": detection,
    "robust_pca": robust_pca,
    "beamforming": beamforming,
}


def _arrow(row: Row) -> str:
    return " → ".join(f"{row[key]:.4f}".lstrip("0") for key in ("untrained", "trained"))


def _thousands(row: Row) -> str:
    total = row["multiply_adds"]["total"] / 1e3
    return f"{total:.1f}" if total < 100 else f"{total:.0f}"


def _options(row: Row) -> str:
    name, _, inside = row["approximation"].partition("(")
    return f"{name} {inside.partition('=')[2].partition(',')[0]}"
