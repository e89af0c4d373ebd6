"""The tables of docs/performance.md, from benchmarks/results/speed.json, and the lines that the benchmark prints."""

from __future__ import annotations

import math
from typing import Any

from speed_backends import beside_best
from speed_cases import GRAPHS, find_graph
from speed_peers import OURS, PEERS

Row = dict[str, Any]


def tables_text(result: Row) -> str:
    """The section as Markdown; what was not measured is left out."""
    rows = result["rows"]
    graphs = list(rows.get("graphs", {}).values())
    lines = _machine(result)
    for batch in sorted({row["batch"] for row in graphs}):
        lines += ["", *_batch_table(graphs, batch)]
    lines += ["", *_peer_table(graphs)]
    if rows.get("backends"):
        lines += ["", *_backend_table(rows["backends"])]
    if rows.get("compile"):
        lines += ["", *_compile_table(rows["compile"])]
    if rows.get("scaling"):
        lines += [
            "",
            "![Time against K, n and batch on logarithmic axes: ours, peers and the limit](performance.svg)",
            "",
        ]
        lines += ["LISTA with tied weights; the time of all problems of a batch."]
    lines += ["", *_failures(graphs)]
    checks = result["checks"]
    missed = [c for c in checks if not c["met"]]
    lines += ["", f"Goals met: {len(checks) - len(missed)} of {len(checks)}."]
    lines += [f"Not met: {c['name']}: {c['measured']:.3g}, goal {c['goal']}.  " for c in missed]
    return "\n".join(lines)


def passes_text(result: Row) -> str:
    """What each transformation gains, as Markdown."""
    lines = [
        f"By `benchmarks/speed_passes.py` on {result['date']}: the same solver compiled with the transformation and "
        "without, in turn; the median of the ratios and their quartiles.",
        "",
        "| transformation | graph | batch | without | with | times faster |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        without, with_it = (_us(row["seconds"][k]["median"]) for k in ("without", "with"))
        gain = row["gain"]
        spread = f"{gain['quartile_1']:.2f} to {gain['quartile_3']:.2f}"
        lines.append(
            f"| `{row['pass']}`: {row['what']} | {row['graph']} | {row['batch']} | {without} | {with_it} | "
            f"{gain['median']:.2f} ({spread}) |"
        )
    return "\n".join(lines)


def console_line(row: Row) -> str:
    """One row in one line."""
    head = f"{row['graph']:<24}{row['batch']:>5}"
    if "timed" not in row:
        return f"{head}  {row.get('failed') or row.get('left_out')}"
    times = "  ".join(f"{name} {seconds * 1e6:.4g}" for name, seconds in best_times(row).items())
    failed = ", ".join(name for name, p in row["peers"].items() if "failed" in p)
    ratio = f"{row['ratio']['median']:.2f}" if "ratio" in row else ""
    best = row.get("best_peer", "")
    return (
        f"{head}  ours {row.get('ours', '')}  best {best}  ratio {ratio}  limit {_share(row)}  us: {times}"
        + (f"  failed: {failed}" if failed else "")
    )  # fmt: skip


def best_times(row: Row) -> dict[str, float]:
    """Seconds of each peer and of each back end of ours, the fastest way of calling it."""
    found: dict[str, float] = {}
    for name, timed in row["timed"].items():
        peer = name.split("|")[0]
        found[peer] = min(timed["median"], found.get(peer, math.inf))
    return found


def _machine(result: Row) -> list[str]:
    machine, rows = result["machine"], result["rows"]
    measured = rows.get("machine", {})
    levels = ", ".join(f"{name} {rate / 1e9:.0f} GB/s" for name, _, rate in measured.get("levels", []))
    versions = ", ".join(f"{name} {version}" for name, version in rows.get("versions", {}).items())
    return [
        f"By `benchmarks/speed.py` on {result['date']}, {machine['processor']}, {machine['cores']} cores, one thread "
        f"on one of them: {measured.get('peak', 0) / 1e9:.0f} Gflop/s of fused multiply-adds; {levels}. {versions}.",
    ]


def _batch_table(graphs: list[Row], batch: int) -> list[str]:
    lines = [
        f"Batch {batch}; µs, medians of rounds, in brackets the quartiles of the ratio.",
        "",
        "| graph | K | ours | best peer | best peer / ours | ONNX Runtime / ours | limit | share of the limit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in graphs:
        if row["batch"] != batch:
            continue
        title = f"{_title(row)} | {find_graph(row['graph']).iterations}"
        if "ratio" not in row:
            lines.append(f"| {title} | {row.get('failed') or row.get('left_out') or 'not compared'} | | | | | |")
            continue
        ours, peer, ratio = row["ours"], row["best_peer"], row["ratio"]
        limit = f"{_us(row['limit']['seconds'])} ({row['limit']['by']})" if "limit" in row else ""
        cells = (
            f"{_us(row['timed'][ours]['median'])} (`{ours.split('|')[0]}`)",
            f"{_us(row['timed'][peer]['median'])} ({peer.split('|')[0]})",
            f"{ratio['median']:.2f} ({ratio['quartile_1']:.2f} to {ratio['quartile_3']:.2f})",
            f"{row['ratios']['onnxruntime']:.1f}" if "onnxruntime" in row["ratios"] else "",
            limit,
            _share(row),
        )
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _peer_table(graphs: list[Row]) -> list[str]:
    names = [*OURS, *PEERS]
    lines = [
        "All of them at batch 1, µs; *call* is `solver(y)` on the back end `c`.",
        "",
        f"| graph | call | {' | '.join(f'`{n}`' if n in OURS else n for n in names)} |",
        "|---|---|" + "---|" * len(names),
    ]
    for row in graphs:
        if row["batch"] == 1 and "timed" in row:
            found = best_times(row)
            call = row["timed"].get("c|call", {}).get("median")
            cells = [
                _us(call) if call else "",
                *(_us(found[n]) if n in found else "failed" if n in row["peers"] else "" for n in names),
            ]
            lines.append(f"| {_title(row)} | {' | '.join(cells)} |")
    return lines


def _backend_table(found: Row) -> list[str]:
    lines = ["Our back ends on bound arrays, in turn, µs; one problem, and 64 of a batch."]
    lines += ["", f"| graph | problems | {' | '.join(f'`{n}`' for n in OURS)} | `tvm` / best of the others |"]
    lines += ["|---|---|" + "---|" * (len(OURS) + 1)]
    for key, row in found.items():
        name, _, batch = key.partition("@")
        times = [_us(row[n]) if n in row else "" for n in OURS]
        cells = [row["failed"]] if "failed" in row else [*times, f"{beside_best(row):.2f}" if "tvm" in row else ""]
        lines.append(f"| {find_graph(name).title} | {batch} | {' | '.join(cells)} |")
    return lines


def _compile_table(compiled: Row) -> list[str]:
    lines = ["Compile time at K = 32, seconds.", "", "| graph | cold | warm |", "|---|---|---|"]
    for name, row in compiled.items():
        cells = row.get("failed") or f"{row['cold_seconds']:.2f} | {row['warm_seconds']:.3f}"
        lines.append(f"| {find_graph(name).title} | {cells} |")
    return lines


def _failures(graphs: list[Row]) -> list[str]:
    """Peers that gave no right answer, once for each reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in graphs:
        for peer, built in row.get("peers", {}).items():
            if "failed" in built:
                found.setdefault((peer, built["failed"]), []).append(f"{row['graph']} at {row['batch']}")
    lines = ["What failed:", ""] if found else ["No peer failed."]
    return lines + [f"- {peer}, {', '.join(where)}: {reason}" for (peer, reason), where in found.items()]


def _title(row: Row) -> str:
    return GRAPHS[row["graph"]].title if row["graph"] in GRAPHS else str(row["graph"])


def _share(row: Row) -> str:
    if "ours" not in row or "limit" not in row:
        return ""
    return f"{row['limit']['seconds'] / row['timed'][row['ours']]['median']:.2f}"


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.3g}" if seconds < 1e-3 else f"{seconds * 1e6:.0f}"
