"""`unfoldc export`: a checkpoint to an ONNX file with K layers."""

from __future__ import annotations

import argparse

from unfoldc.commands.common import Subparsers, add_json, new_command


def add(commands: Subparsers) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = new_command(
        commands,
        "export",
        run,
        "write the network of a checkpoint as an ONNX file with K layers, and check it against PyTorch",
        "unfoldc export checkpoint -o solver.onnx",
    )
    parser.add_argument("checkpoint", help="what `unfoldc train` wrote")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the .onnx file to write")
    parser.add_argument("--iterates", action="store_true", help="add the estimate after each iteration as an output")
    add_json(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Export and say what was found."""
    raise NotImplementedError
