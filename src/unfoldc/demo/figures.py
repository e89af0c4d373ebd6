"""Pictures and plots of the report, as text that can stand inside an HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_INK = "#1c2733"
_COLOURS = {
    "unfolded": "#0b6e4f",
    "hyperparameters": "#c77d0a",
    "ista": "#3d5a98",
    "converged": "#3d5a98",
    "bicubic": "#8a8f98",
}
_NAMES = {
    "unfolded": "unfolded, trained",
    "hyperparameters": "unfolded, 20 numbers trained",
    "ista": "ISTA",
    "converged": "ISTA, converged",
    "bicubic": "bicubic",
}


def png(picture: np.ndarray, zoom: int = 1) -> str:
    """A grey picture in [0, 1] as a data URI, each pixel `zoom` pixels wide."""
    from PIL import Image

    grey = np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
    grey = np.kron(grey, np.ones((zoom, zoom), np.uint8))
    return _encode(Image.fromarray(grey), "PNG")


def jpeg(picture: np.ndarray, box: tuple[int, int, int] | None = None, width: int = 480) -> str:
    """A photograph in [0, 1] as a small data URI; `box` (row, column, side) is drawn as a frame."""
    from PIL import Image, ImageDraw

    grey = np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
    image = Image.fromarray(grey).convert("RGB")
    if box:
        row, column, side = box
        ImageDraw.Draw(image).rectangle((column, row, column + side, row + side), outline=(255, 196, 0), width=3)
    height = round(image.height * width / image.width)
    return _encode(image.resize((width, height), Image.Resampling.LANCZOS), "JPEG", quality=85)


def _encode(image: Any, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def psnr_plot(photographs: Mapping[str, Mapping[str, Any]]) -> str:
    """PSNR after each iteration, one panel for each photograph, as SVG text."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, len(photographs), figsize=(3.5 * len(photographs), 3.0), squeeze=False)
    for axis, (name, photograph) in zip(axes[0], photographs.items(), strict=True):
        curves: Mapping[str, Sequence[float]] = photograph["psnr_per_iteration"]
        for key in ("unfolded", "hyperparameters", "ista"):
            k = range(1, len(curves[key]) + 1)
            axis.plot(k, curves[key], marker="o", markersize=3.5, color=_COLOURS[key], label=_NAMES[key])
        for key, style in (("converged", "--"), ("bicubic", ":")):
            axis.axhline(photograph["psnr"][key], color=_COLOURS[key], linestyle=style, label=_NAMES[key])
        low = photograph["psnr"]["bicubic"] - 1.5
        axis.set_ylim(bottom=max(low, axis.get_ylim()[0]))
        axis.set_title(name, color=_INK)
        axis.set_xlabel("iteration")
        axis.set_xticks(range(1, len(curves["ista"]) + 1))
    axes[0][0].set_ylabel("PSNR in dB")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=len(labels), frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    return _svg(figure)


def cost_plot(host: Mapping[str, Any], device: Mapping[str, Any]) -> str:
    """Time on the host and instructions on the device, for begin, each iteration and end, as SVG text."""
    plt = _pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 2.8))
    labels = ["begin", *(str(row["k"]) for row in host["iterations"]), "end"]
    rows = [host["begin"], *host["iterations"], host["end"]]
    middle = [1e6 * (row["seconds_p50"] or 0) for row in rows]
    slow = [max(0.0, 1e6 * (row["seconds_p99"] or 0) - m) for row, m in zip(rows, middle, strict=True)]
    left.bar(
        labels,
        middle,
        color=_COLOURS["ista"],
        yerr=[[0] * len(slow), slow],
        error_kw={"elinewidth": 0.8, "ecolor": "#8a8f98"},
    )
    left.set_title("host: time of one problem, median (line: 99th percentile)", fontsize=9, color=_INK)
    left.set_ylabel("µs")
    counts = [
        device["begin"]["instructions"],
        *(r["instructions"] for r in device["iterations"]),
        device["end"]["instructions"],
    ]
    right.bar(labels, [c / 1000 for c in counts], color=_COLOURS["unfolded"])
    right.set_title(f"{device['target']}: instructions of one problem, counted", fontsize=9, color=_INK)
    right.set_ylabel("thousands")
    for axis in (left, right):
        axis.set_xlabel("iteration")
    figure.tight_layout()
    return _svg(figure)


def save_strip(
    path: Path,
    columns: Sequence[tuple[str, str]],
    crops: Mapping[str, Mapping[str, np.ndarray]],
    psnr: Mapping[str, Mapping[str, float]],
) -> None:
    """A picture file with a row for each photograph and a (method, caption) for each column."""
    plt = _pyplot()
    figure, axes = plt.subplots(len(crops), len(columns), figsize=(2.1 * len(columns), 2.3 * len(crops)), squeeze=False)
    for row, (name, pictures) in zip(axes, crops.items(), strict=True):
        for axis, (key, caption) in zip(row, columns, strict=True):
            axis.imshow(pictures[key], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_axis_off()
            figure_of_merit = psnr[name].get(key)
            text = f"{figure_of_merit:.2f} dB" if figure_of_merit is not None else ""
            axis.set_title(f"{caption}\n{text}" if axis in axes[0] else text, fontsize=9, color=_INK)
    figure.tight_layout(pad=0.8, h_pad=1.6, rect=(0, 0, 1, 0.98))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        {
            "svg.hashsalt": "unfoldc",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#e6e9ed",
            "axes.axisbelow": True,
            "font.size": 9,
            "axes.edgecolor": "#8a8f98",
        }
    )
    return plt


def _svg(figure: Any) -> str:
    from matplotlib import pyplot as plt

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
