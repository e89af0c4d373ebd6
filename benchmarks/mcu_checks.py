"""The goals of the microcontroller benchmark, from its rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from mcu_cases import ITERATIONS, MANY, ONE
from measuring import check

Row = dict[str, Any]
TOLERANCE = 1e-4
FEWER, FLASH = 1.5, 0.2


def checks_of(rows: Row) -> list[Row]:
    """All checks whose figures were counted."""
    return [c for core, found in rows.get("cores", {}).items() for c in _core(core, found)]


def fewest(row: Row) -> str:
    """The file from which emx-onnx-cgen makes the program with the fewest instructions; empty if none is right."""
    right = {form: f["instructions"] for form, f in row["emx"].items() if _right(f)}
    return min(right, key=lambda form: right[form]) if right else ""


def instruction_ratio(row: Row) -> float | None:
    """emx / ours."""
    form = fewest(row)
    return row["emx"][form]["instructions"] / row["ours"]["ours"]["instructions"] if form else None


def flash_ratio(row: Row, form: str) -> float | None:
    """ours / emx, both made from this file."""
    emx = row["emx"][form]
    return row["ours"][form]["flash_bytes"] / emx["flash_bytes"] if _right(emx) else None


def _right(found: Row) -> bool:
    return "failed" not in found and found["error"] <= TOLERANCE


def _core(core: str, found: dict[str, Row]) -> Iterator[Row]:
    wrong = [
        n for n, row in found.items() if not all(_right(f) for f in (*row["ours"].values(), *row["stack"].values()))
    ]
    yield check(f"{core}: solvers that are not right", len(wrong), 0, False)
    ratios = {n: r for n, row in found.items() if (r := instruction_ratio(row)) is not None}
    if ratios:
        mean = math.exp(sum(math.log(r) for r in ratios.values()) / len(ratios))
        yield check(f"{core}: instructions, emx / ours, geometric mean of {len(ratios)}", mean, FEWER, True)
        more = [n for n, r in ratios.items() if r < 1]
        yield check(f"{core}: solvers that take more instructions than emx's", len(more), 0, False)
    shares = [r for row in found.values() if row["tied"] and (r := flash_ratio(row, "torch")) is not None]
    if shares:
        text = f"{core}: flash, ours / emx, torch.onnx.export, the largest of {len(shares)} with tied weights"
        yield check(text, max(shares), FLASH, False)
    repeated = [r for row in found.values() if _repeated(row) and (r := flash_ratio(row, "torch")) is not None]
    if repeated:
        text = f"{core}: flash, ours / emx, torch.onnx.export, the largest of {len(repeated)} whose weights it repeats"
        yield check(text, max(repeated), FLASH, False)
    larger = [n for n, row in found.items() if (flash_ratio(row, "ours") or 0) > 1]
    yield check(f"{core}: solvers larger than emx's on our exporter's file", len(larger), 0, False)
    many = {n: row["stack"][str(MANY)] for n, row in found.items()}
    for k in (ONE, ITERATIONS):
        other = {n: row["stack"][str(ONE)] if k == ONE else row["ours"]["ours"] for n, row in found.items()}
        changed = [n for n in found if _stack(many[n]) != _stack(other[n])]
        yield check(f"{core}: solvers whose stack at K = {MANY} is not that at K = {k}", len(changed), 0, False)


def _stack(found: Row) -> tuple[int, int]:
    return found["stack_bytes"], found["stack_bound_bytes"]


def _repeated(row: Row) -> bool:
    """Whether the file of torch.onnx.export makes a program that is much larger, for what ours holds once."""
    sizes = [row["emx"][form].get("flash_bytes", 0) for form in ("ours", "torch")]
    return bool(row["tied"] and sizes[1] > 2 * sizes[0] > 0)
