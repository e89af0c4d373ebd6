"""`unfoldc train`: learn an unfolded solver."""

from __future__ import annotations

import argparse

from unfoldc.commands.common import Subparsers, add_json, new_command, positive


def add(commands: Subparsers) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = new_command(
        commands,
        "train",
        run,
        "train an unfolded solver, or continue from a checkpoint",
        "unfoldc train --problem superresolution --learn mu,theta --iterations 10 --seconds 60 -o checkpoint",
    )
    parser.add_argument("-o", "--output", required=True, metavar="CHECKPOINT", help="where to write")
    add_json(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Train, write the checkpoint, and say how it ended."""
    raise NotImplementedError
