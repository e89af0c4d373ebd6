"""Goals and tables of the benchmark on GPUs, from its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from measuring import check

Row = dict[str, Any]
SMALL = ("lista-16-32-tied-k10", "lista-32-64-tied-k10", "wmmse", "mimo-admm")
MANY = ("mimo-admm", "beamforming")
_COLUMNS = ("torch eager", "torch eager, CUDA graph", "torch.compile", "jax", "onnxruntime")


def timed(row: Row, prefix: str) -> tuple[str, float] | None:
    """The fastest candidate whose name begins so, and its seconds per call; None where none was timed."""
    candidates = row.get("candidates", {}).items()
    found = [(c["time"]["median"], name) for name, c in candidates if name.startswith(prefix) and "time" in c]
    return (min(found)[1], min(found)[0]) if found else None


def ours(row: Row) -> float | None:
    """Our seconds per call."""
    found = timed(row, "ours")
    return found[1] if found else None


def best_peer(row: Row) -> tuple[str, float] | None:
    """The fastest peer and its seconds per call."""
    peers = {name: c for name, c in row.get("candidates", {}).items() if not name.startswith("ours")}
    return timed({"candidates": peers}, "")


def roofline(row: Row, gpu: Row) -> float | None:
    """The least seconds that arithmetic and traffic of a call take on a device."""
    need = row.get("needs")
    if not need or not gpu.get("flops_per_second"):
        return None
    return max(need["flops"] / gpu["flops_per_second"], need["bytes"] / gpu["bytes_per_second"])


def checks_of(rows: Row) -> list[Row]:
    """All checks whose figures were measured."""
    graphs, gpu = rows.get("graphs", {}), rows.get("gpu", {})
    return [*_errors(graphs), *_small(graphs), *_many(graphs, gpu), *_large(graphs)]


def _errors(graphs: dict[str, Row]) -> Iterator[Row]:
    for key, row in graphs.items():
        errors = [
            c["error"] for name, c in row.get("candidates", {}).items() if name.startswith("ours") and "error" in c
        ]
        if errors:
            yield check(f"{key}: error of ours", max(errors), 1e-5, False)


def _small(graphs: dict[str, Row]) -> Iterator[Row]:
    for name in SMALL:
        row = graphs.get(f"{name}@1", {})
        mine, peer = ours(row), timed(row, "torch.compile")
        if mine is not None:
            yield check(f"{name}@1: microseconds of a solve", 1e6 * mine, 15.0, False)
        if mine is not None and peer is not None:
            yield check(f"{name}@1: times faster than torch.compile", peer[1] / mine, 5.0, True)


def _many(graphs: dict[str, Row], gpu: Row) -> Iterator[Row]:
    for name in MANY:
        row = graphs.get(f"{name}@65536", {})
        mine, peer, least = ours(row), best_peer(row), roofline(row, gpu)
        if mine is not None and peer is not None:
            yield check(f"{name}@65536: times the best peer", peer[1] / mine, 3.0, True)
        if mine is not None and least is not None:
            yield check(f"{name}@65536: share of the roofline", least / mine, 0.4, True)


def _large(graphs: dict[str, Row]) -> Iterator[Row]:
    for key, goal in (("lista-250-500-tied@4096", 1.0), ("rpca-1000@1", 2.0)):
        mine, peer = ours(graphs.get(key, {})), timed(graphs.get(key, {}), "torch.compile")
        if mine is not None and peer is not None:
            yield check(f"{key}: times torch.compile", peer[1] / mine, goal, True)


def markdown(content: Row) -> str:
    """The table of docs/performance.md: microseconds per call, as many under way as the GPU takes."""
    rows, gpu = content["rows"], content["rows"].get("gpu", {})
    head = ["graph", "batch", "ours", *_COLUMNS, "best peer / ours", "of the roofline"]
    lines = [
        f"{gpu.get('name', 'no GPU')}, {content['date']}, microseconds per call:",
        "",
        _line(head),
        _line(["---"] * len(head)),
    ]
    for row in rows.get("graphs", {}).values():
        mine, peer, least = ours(row), best_peer(row), roofline(row, gpu)
        cells = [row["graph"], str(row["batch"]), _micro(mine)]
        cells += [_micro(found[1] if (found := _exactly(row, column)) else None) for column in _COLUMNS]
        cells.append(f"{peer[1] / mine:.2f}" if mine and peer else "")
        cells.append(f"{least / mine:.0%}" if mine and least else "")
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def registers(rows: Row) -> str:
    """What every kernel takes on each architecture, as the assembler says."""
    lines = [_line(["graph", "kernel", "architecture", "registers", "stack bytes", "spilt bytes"]), _line(["---"] * 6)]
    for name, built in rows.get("builds", {}).items():
        for architecture, kernels in built.get("kernels", {}).items():
            for kernel, k in kernels.items():
                spilt = str(k["spill_stores"])
                lines.append(_line([name, kernel, architecture, str(k["registers"]), str(k["stack_bytes"]), spilt]))
        if "failed" in built:
            lines.append(_line([name, built["failed"], "", "", "", ""]))
    return "\n".join(lines) + "\n"


def _exactly(row: Row, column: str) -> tuple[str, float] | None:
    """A column's candidate, its modes included, but no other column's."""
    others = [c for c in _COLUMNS if c != column and c.startswith(column)]
    kept = {n: c for n, c in row.get("candidates", {}).items() if not any(n.startswith(other) for other in others)}
    return timed({"candidates": kept}, column)


def _micro(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e6 * seconds:.3g}" if seconds < 1e-3 else f"{1e6 * seconds:.0f}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
