"""The goals of the speed benchmark, from its rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from measuring import check
from speed_backends import GOAL, beside_best
from speed_cases import GRAPHS

Row = dict[str, Any]
L2_GOAL, BEYOND_GOAL = 0.6, 0.85


def checks_of(rows: Row) -> list[Row]:
    """All checks whose figures were measured."""
    graphs = rows.get("graphs", {})
    return [
        *_peers(graphs),
        *_backends(rows.get("backends", {})),
        *_limits(graphs),
        *_compile(rows.get("compile", {})),
    ]


def at(graphs: Row, batch: int) -> dict[str, Row]:
    """The rows of a batch that hold a comparison, by graph."""
    return {row["graph"]: row for row in graphs.values() if row["batch"] == batch and "ratio" in row}


def ours_seconds(row: Row) -> float:
    """Our median."""
    return float(row["timed"][row["ours"]]["median"])


def _peers(graphs: Row) -> Iterator[Row]:
    found = at(graphs, 1)
    if not found:
        return
    logs = [math.log(row["ratio"]["median"]) for row in found.values()]
    mean = math.exp(sum(logs) / len(logs))
    yield check(f"batch 1: geometric mean of best peer / ours, {len(logs)} graphs", mean, 2.0, True)
    for name, row in found.items():
        if "onnxruntime" in row["ratios"] and ours_seconds(row) < 100e-6:
            yield check(f"batch 1, {name}: times faster than ONNX Runtime", row["ratios"]["onnxruntime"], 10.0, True)
    for batch in (1, 16, 256, 1024):
        slower = [n for n, row in at(graphs, batch).items() if row["ratio"]["median"] < 1.0]
        if at(graphs, batch) and batch != 16:
            yield check(f"batch {batch}: graphs slower than the best peer", len(slower), 0, False)
    large = found.get("rpca-1000", {}).get("ratios", {}).get("onnxruntime")
    if large is not None:
        yield check("batch 1, rpca-1000: times faster than ONNX Runtime", large, 5.0, True)


def _limits(graphs: Row) -> Iterator[Row]:
    for name, row in at(graphs, 1).items():
        if name in GRAPHS and GRAPHS[name].matrix_vector and "limit" in row:
            share = row["limit"]["seconds"] / ours_seconds(row)
            within = row["limit"]["by"] in ("arithmetic", "L1", "L2")
            text = "of the limit, within L2" if within else "of the bandwidth, beyond L2"
            yield check(f"batch 1, {name}: share {text}", share, L2_GOAL if within else BEYOND_GOAL, True)


def _backends(backends: Row) -> Iterator[Row]:
    found = {key: beside_best(row) for key, row in backends.items() if "tvm" in row}
    if found:
        worst = max(found, key=lambda key: found[key])
        yield check(f"tvm beside the best of ours, {len(found)} cases, worst: {worst}", found[worst], GOAL, False)


def _compile(compiled: Row) -> Iterator[Row]:
    for name, row in compiled.items():
        if "cold_seconds" in row:
            yield check(f"compile {name} at K = 32: seconds, cold", row["cold_seconds"], 3.0, False)
            yield check(f"compile {name} at K = 32: seconds, warm", row["warm_seconds"], 0.1, False)
