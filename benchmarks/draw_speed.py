"""Draws docs/performance.svg: time against K, n and batch on logarithmic axes, of ours, of the peers, and the limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from draw_approximations import DARK, GREY

Row = dict[str, Any]
_TITLES = {
    "K": "iterations K, 32→64, one problem",
    "n": "unknowns n, n/2 measurements, K = 16",
    "batch": "problems in a batch, 32→64, K = 16",
}
_STYLES = {
    "ours": ("#2a78d6", "-", 2.2), "emx": ("#eb6834", "-", 1.4), "onnxruntime": ("#1baf7a", "-", 1.4),
    "openvino": ("#9a5fd1", "-", 1.4), "limit": (GREY, "--", 1.2),
}  # fmt: skip
_NAMES = {"ours": "unfoldc", "emx": "emx-onnx-cgen, gcc", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def draw(scaling: Row, path: Path) -> None:
    """One panel for each axis that was measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    axes = [axis for axis in _TITLES if scaling.get(axis)]
    settings = {"font.size": 9, "svg.hashsalt": "unfoldc", "svg.fonttype": "none", "text.color": DARK}
    with pyplot.rc_context(settings):
        figure, panels = pyplot.subplots(1, len(axes), figsize=(3.6 * len(axes), 3.4), squeeze=False)
        for axis, panel in zip(axes, panels[0], strict=True):
            _panel(panel, axis, scaling[axis])
        panels[0][0].set_ylabel("µs for all problems")
        panels[0][0].legend(frameon=False, fontsize=8)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def curves(points: Row) -> dict[str, list[tuple[int, float]]]:
    """By name the pairs of the axis' value and µs, those that were measured."""
    found: dict[str, list[tuple[int, float]]] = {}
    for value, point in points.items():
        if "failed" in point:
            continue
        for name, seconds in {**point["seconds"], "limit": point["limit"]}.items():
            found.setdefault(name, []).append((int(value), 1e6 * seconds))
    return found


def _panel(panel: Any, axis: str, points: Row) -> None:
    for name, line in curves(points).items():
        colour, style, width = _STYLES.get(name, (DARK, ":", 1.0))
        x, y = zip(*line, strict=True)
        label = _NAMES.get(name, name)
        panel.plot(x, y, style, color=colour, linewidth=width, marker="o", markersize=2.5 * width**0.5, label=label)
    panel.set(xscale="log", yscale="log", title=_TITLES[axis])
    panel.title.set_fontsize(9)
    panel.set_xticks([int(v) for v in points], [str(v) for v in points])
    panel.minorticks_off()
    panel.grid(True, color=GREY, alpha=0.2, linewidth=0.6)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
