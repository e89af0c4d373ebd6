"""`unfoldc demo`: the example from training to the device, with a report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unfoldc.commands.common import Subparsers, add_json, new_command, print_json

_QUICK: dict[str, Any] = {"steps": 60, "hyper_steps": 20}


def add(commands: Subparsers) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = new_command(
        commands,
        "demo",
        run,
        "train a super-resolution solver, compile it for this computer and a Cortex-M4, and write a report",
        "unfoldc demo --output build/demo",
    )
    parser.add_argument(
        "-o", "--output", default="build/demo", metavar="FOLDER", help="where to write (default: build/demo)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="train for a moment only: everything runs, pictures are poor"
    )
    add_json(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Run the demo."""
    from unfoldc.demo import run as run_demo

    steps: dict[str, Any] = _QUICK if arguments.quick else {}
    summary = run_demo(Path(arguments.output), progress=not arguments.json, **steps)
    if arguments.json:
        print_json(summary)
