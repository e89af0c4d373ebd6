"""The tables of docs/microcontrollers.md, from benchmarks/results/mcu.json, and the lines that the benchmark prints."""

from __future__ import annotations

from typing import Any

from mcu_cases import MANY, ONE
from mcu_checks import TOLERANCE, fewest, flash_ratio, instruction_ratio

Row = dict[str, Any]


def console_line(core: str, name: str, row: Row) -> str:
    """One row in one line."""
    form = fewest(row)
    emx = f"{row['emx'][form]['instructions']} ({form})" if form else "no right answer"
    flash = ", ".join(f"{f} {_share(flash_ratio(row, f))}" for f in ("torch", "ours"))
    stack = " / ".join(str(row["stack"][str(k)]["stack_bytes"]) for k in (ONE, MANY))
    failed = [f for f, found in row["emx"].items() if "failed" in found]
    return (
        f"{core:<10} {name:<13} ours {row['ours']['ours']['instructions']:>8}  emx {emx}  ratio "
        f"{_share(instruction_ratio(row))}  flash ours/emx: {flash}  stack {stack}"
        + (f"  emx failed: {', '.join(failed)}" if failed else "")
    )  # fmt: skip


def tables_text(result: Row) -> str:
    """The section as Markdown."""
    versions = result["versions"]
    lines = [
        f"By `benchmarks/mcu.py` on {result['date']}, emx-onnx-cgen {result['rows']['emx']}, clang of ziglang "
        f"{versions['ziglang']}, unicorn {versions['unicorn']}.",
    ]
    for core, found in result["rows"]["cores"].items():
        lines += ["", f"### {core}", "", *_table(found), "", *_failures(found)]
    missed = [c for c in result["checks"] if not c["met"]]
    lines += ["", f"Goals met: {len(result['checks']) - len(missed)} of {len(result['checks'])}."]
    lines += [f"Not met: {c['name']}: {c['measured']:.3g}, goal {c['goal']}.  " for c in missed]
    return "\n".join(lines)


def _table(found: dict[str, Row]) -> list[str]:
    lines = [
        "| solver, K = 16 | instructions, ours | emx | emx / ours | flash from torch's file, ours / emx | flash from "
        "our file, ours / emx | stack at K = 1, 32 | emx's stack |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found.values():
        form = fewest(row)
        emx = row["emx"][form] if form else None
        cells = [
            row["title"] + (" (tied)" if row["tied"] and "tied" not in row["title"] else ""),
            str(row["ours"]["ours"]["instructions"]),
            f"{emx['instructions']} ({form})" if emx else "none is right",
            _share(instruction_ratio(row)),
            *(_flash(row, f) for f in ("torch", "ours")),
            ", ".join(str(row["stack"][str(k)]["stack_bytes"]) for k in (ONE, MANY)),
            str(emx["stack_bytes"]) if emx else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _flash(row: Row, form: str) -> str:
    ours, emx = row["ours"][form]["flash_bytes"], row["emx"][form].get("flash_bytes")
    return f"{ours} / {emx} = {_share(flash_ratio(row, form))}" if emx else f"{ours} / refused"


def _share(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _failures(found: dict[str, Row]) -> list[str]:
    lines = [
        f"- {name}, {form}: {built.get('failed') or 'wrong, relative error {:.2g}'.format(built['error'])}"
        for name, row in found.items()
        for form, built in row["emx"].items()
        if "failed" in built or built["error"] > TOLERANCE
    ]
    if not lines:
        return ["emx-onnx-cgen made a right program of every file."]
    return ["What emx-onnx-cgen made no right program of:", "", *lines]
