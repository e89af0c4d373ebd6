"""The demo on one photograph and with hardly any training: every station, every file, the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from unfoldc.demo import run


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    run(folder, steps=12, hyper_steps=4, training=("brick.png", "moon.png"), test=("coins.png",), progress=False)
    return folder


def test_every_file_is_there(demo: Path) -> None:
    for name in (
        "solver.onnx",
        "host/solver.c",
        "stm32f407/solver.c",
        "stm32f407/CMakeLists.txt",
        "stm32f407/unfoldc/solver.elf",
        "unfolded.safetensors",
    ):
        assert (demo / name).stat().st_size > 0, name
    assert not [p for p in demo.rglob("*") if p.suffix == ".part"]


def test_the_summary_holds_measured_figures(demo: Path) -> None:
    summary = json.loads((demo / "summary.json").read_text())
    coins = summary["photographs"]["coins"]
    assert coins["host_error"] < 1e-5
    assert coins["crop"]["device_error"] < 1e-4
    assert coins["patches"] > 4000
    for curve in ("unfolded", "ista", "hyperparameters"):
        assert len(coins["psnr_per_iteration"][curve]) == summary["iterations"] == 10
    assert coins["psnr_per_iteration"]["unfolded"][-1] == pytest.approx(coins["psnr"]["unfolded"])
    # Untrained networks are the classical solver; a dozen steps must not make them worse than that by much.
    assert coins["psnr"]["unfolded"] > coins["psnr"]["ista"] - 0.3 > coins["psnr"]["bicubic"]
    device = summary["device"]
    assert len({row["instructions"] for row in device["iterations"]}) == 1
    assert 80_000 < device["flash_bytes"] < 120_000 and device["ram_bytes"] < 4096 and device["stack_bytes"] < 1024


def test_the_page_stands_alone(demo: Path) -> None:
    page = (demo / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 8
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page.replace("xlink:", ""))
    assert "<script" not in page
    for figure in (
        f"{json.loads((demo / 'summary.json').read_text())['photographs']['coins']['psnr']['unfolded']:.2f}",
    ):
        assert figure in page
