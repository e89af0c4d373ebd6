"""`unfoldc demo`: the example from training to the device, with a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from unfoldc.commands.common import Subparsers, new_command


def add(commands: Subparsers) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = new_command(
        commands,
        "demo",
        run,
        "train a super-resolution solver, compile it for this computer and a Cortex-M4, and write a report",
        "unfoldc demo --output build/demo",
    )
    parser.add_argument("--output", default="build/demo", metavar="FOLDER", help="where to write; build/demo")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Run the demo."""
    from unfoldc.demo import run as run_demo

    run_demo(Path(arguments.output))
