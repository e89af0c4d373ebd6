"""The report of the demo: one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unfoldc.demo.figures import cost_plot, jpeg, png, psnr_plot, save_strip

Pictures = Mapping[str, Mapping[str, np.ndarray]]

_CAPTIONS = (
    ("low", "low resolution"),
    ("bicubic", "bicubic"),
    ("ista", "ISTA, {K} iterations"),
    ("converged", "ISTA, converged"),
    ("hyperparameters", "unfolded, {few} numbers trained"),
    ("unfolded", "unfolded, host"),
    ("device", "unfolded, {board}"),
    ("original", "original"),
)


def write_report(path: Path, summary: Mapping[str, Any], crops: Pictures, whole: Mapping[str, np.ndarray]) -> None:
    """Renders the page from the summary, the crops (photograph -> method -> picture) and the solved photographs."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("unfoldc.demo", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["bytes"] = _bytes
    environment.filters["thousands"] = lambda n: f"{n:,}".replace(",", "\u202f")
    words = {
        "K": summary["iterations"],
        "board": summary["device"]["target"],
        "few": summary["training"]["hyperparameters"]["learned_numbers"],
    }
    strips = {}
    for name, pictures in crops.items():
        photograph = summary["photographs"][name]
        strips[name] = [
            {
                "caption": caption.format(**words),
                "psnr": photograph["crop"]["psnr"].get(key),
                "image": png(pictures[key], zoom=2 if key == "low" else 1),
                "key": key,
            }
            for key, caption in _CAPTIONS
        ]
    page = environment.get_template("report.html").render(
        summary=summary,
        strips=strips,
        overview={name: jpeg(whole[name], tuple(summary["photographs"][name]["crop"]["box"])) for name in crops},
        psnr_plot=psnr_plot(summary["photographs"]),
        cost_plot=cost_plot(summary["host"], summary["device"]),
    )
    path.write_text(page, encoding="utf-8")


def write_strip(path: Path, summary: Mapping[str, Any], crops: Pictures) -> None:
    """Saves one picture with a row of crops for each photograph: the report in one glance."""
    words = {"K": summary["iterations"], "board": summary["device"]["target"], "few": ""}
    shown = ("low", "bicubic", "ista", "device", "original")
    columns = [(key, caption.format(**words)) for key, caption in _CAPTIONS if key in shown]
    figures = {name: photograph["crop"]["psnr"] for name, photograph in summary["photographs"].items()}
    save_strip(path, columns, crops, figures)


def _bytes(count: int) -> str:
    return f"{count} B" if count < 10_000 else f"{count / 1024:.1f} KiB"
