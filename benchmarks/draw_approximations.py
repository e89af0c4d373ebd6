"""Draws docs/approximations.svg, error against cost, from the rows of the case error_and_cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]
WIDTH, HEIGHT = 7.0, 7.8  # inches of 100 pixels
GREY, DARK = "#777777", "#333333"
COLORS: Mapping[str, str] = {
    "Diagonal": "#777777",
    "Neumann": "#1f5fa8",
    "Jacobi, damped": "#1a8f7d",
    "Chebyshev": "#8e44ad",
    "conjugate gradient": "#d1495b",
    "Gauss-Seidel": "#b86e00",
    "Newton-Schulz": "#5b4a3f",
}
# Families whose costs lie far from the others' stand at the edge, with their costs in words.
LEFT, RIGHT = "Diagonal", "Newton-Schulz"
TICKS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
COSTS = (20_000, 50_000, 100_000, 200_000)


def draw(rows: list[Row], path: Path) -> None:
    """Two panels, cold and warm starts: for each approximation its error untrained (hollow) and trained (filled)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    exact = [row for row in rows if row["family"] == "exact"]
    panels = [[r for r in rows if r not in exact and r["family"].endswith(", warm") == warm] for warm in (False, True)]
    limits = [_limits([*panel, *exact]) for panel in panels]
    settings = {"svg.hashsalt": "unfoldc", "svg.fonttype": "path", "font.size": 9.5, "font.family": "DejaVu Sans"}
    with plt.rc_context(settings):
        # One scale for both panels: their heights are as their ranges.
        figure, axes = plt.subplots(
            *(2, 1),
            sharex=True,
            figsize=(WIDTH, HEIGHT),
            layout="constrained",
            height_ratios=[math.log(high / low) for low, high in limits],
        )
        titles = ("cold start", "warm start, from the answer of the iteration before")
        for axis, panel, limit, title in zip(axes, panels, limits, titles, strict=True):
            _axis(axis, limit)
            axis.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=DARK)
            _panel(axis, panel)
            _exact(axis, exact, named=axis is axes[1])
        inside = [r["multiply_adds"]["total"] for r in rows if _plain(r["family"]) not in (LEFT, RIGHT)]
        axes[1].set_xlim(0.42 * min(inside), 1.35 * max(inside))
        axes[0].set_title("○ untrained   ● trained", loc="right", fontsize=9.5, color=DARK)
        axes[1].set_xlabel("multiply-adds of a whole solve")
        figure.supylabel("mean squared error on fresh channels", fontsize=9.5)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white")
        plt.close(figure)


def _limits(rows: list[Row]) -> tuple[float, float]:
    errors = [row[key] for row in rows for key in ("untrained", "trained")]
    return min(errors) / 1.45, max(errors) * 1.25


def _axis(axis: Any, limits: tuple[float, float]) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(*limits)
    axis.minorticks_off()
    axis.set_yticks([t for t in TICKS if limits[0] <= t <= limits[1]], minor=False)
    axis.yaxis.set_major_formatter(lambda value, position: f"{value:g}")
    axis.set_xticks(COSTS, minor=False)
    axis.xaxis.set_major_formatter(lambda value, position: f"{value:,.0f}".replace(",", " "))
    axis.grid(True, which="major", color="#e9e9e9", linewidth=0.6)
    axis.set_axisbelow(True)
    for edge in ("top", "right"):
        axis.spines[edge].set_visible(False)


def _panel(axis: Any, rows: list[Row]) -> None:
    for name, color in COLORS.items():
        found = sorted((r for r in rows if _plain(r["family"]) == name), key=lambda r: r["order"])
        if not found:
            continue
        if name in (LEFT, RIGHT):
            _edge(axis, name, found, color)
            continue
        cost = [row["multiply_adds"]["total"] for row in found]
        before, after = ([row[key] for row in found] for key in ("untrained", "trained"))
        axis.plot(cost, after, color=color, linewidth=1.6, marker="o", markersize=5, zorder=4)
        axis.plot(cost, before, color=color, linewidth=0.9, linestyle=(0, (1, 2)), zorder=2)
        axis.plot(cost, before, color=color, linestyle="", marker="o", markersize=5, markerfacecolor="white", zorder=3)
        axis.vlines(cost, after, before, color=color, linewidth=0.6, alpha=0.6, zorder=1)
        offset, side = _beside(name, warm=found[0]["family"] != name)
        _text(axis, name, (cost[0], before[0]), offset, color, side)


def _edge(axis: Any, name: str, rows: list[Row], color: str) -> None:
    """A family outside of the axis: at its edge, with its costs as text."""
    across = axis.get_yaxis_transform()
    for i, row in enumerate(rows):
        place = 0.0 if name == LEFT else 1.0 - 0.022 * (len(rows) - 1 - i)
        total = row["multiply_adds"]["total"]
        cost = f"{total / 1e6:.1f} million" if total >= 1e6 else f"{total:,}".replace(",", " ")
        text = f"◂ {name}: {cost}" if name == LEFT else f"{name} {row['order']}: {cost} ▸"
        both = [row["untrained"], row["trained"]]
        axis.plot([place, place], both, transform=across, color=color, linewidth=0.6, alpha=0.6, clip_on=False)
        for error, fill in zip(both, ("white", color), strict=True):
            axis.plot([place], [error], transform=across, color=color, marker="o", markersize=5, markerfacecolor=fill,
                      clip_on=False, zorder=5)  # fmt: skip
        offset, side = ((0, -8), "left") if name == LEFT else ((-7 - 15 * i, 0), "right")
        axis.annotate(text, (place, row["untrained"]), offset, xycoords=across, textcoords="offset points", color=color,
                      ha=side, va="center", fontsize=8.5)  # fmt: skip


def _exact(axis: Any, exact: list[Row], named: bool) -> None:
    """Exact: its errors as lines, its costs as squares on them."""
    once = exact[0]
    for key, style in (("untrained", (0, (4, 3))), ("trained", "-")):
        axis.axhline(once[key], color=GREY, linewidth=0.9, linestyle=style, zorder=0)
        _text(axis, f"exact, {key}", (0, once[key]), (4, 5), GREY, "left", axis.get_yaxis_transform())
    for row, text in zip(exact, ("exact,\nfactored once", "exact, factored\nin each iteration"), strict=True):
        cost = row["multiply_adds"]["total"]
        axis.vlines(cost, row["trained"], row["untrained"], color=GREY, linewidth=0.6, zorder=1)
        for key, fill in (("untrained", "white"), ("trained", GREY)):
            axis.plot([cost], [row[key]], marker="s", markersize=6, color=GREY, markerfacecolor=fill, zorder=3)
        if named:
            axis.annotate(text, (cost, row["trained"]), (0, -10), textcoords="offset points", color=GREY, ha="center",
                          va="top", fontsize=8.5)  # fmt: skip


def _text(
    axis: Any,
    text: str,
    place: tuple[float, float],
    offset: tuple[float, float],
    color: str,
    side: str,
    coordinates: Any = "data",
) -> None:
    axis.annotate(text, place, offset, xycoords=coordinates, textcoords="offset points", color=color,
                  ha=side, va="center", zorder=5)  # fmt: skip


def _beside(name: str, warm: bool) -> tuple[tuple[float, float], str]:
    """Where a family's name stands beside its first point."""
    if name == "Gauss-Seidel":
        return (7, 5), "left"
    if name == "conjugate gradient" and warm:
        return (0, 9), "left"
    return (-7, 0), "right"


def _plain(family: str) -> str:
    return family.removesuffix(", warm")
