"""`unfoldc inspect`: what the compiler sees in a model."""

from __future__ import annotations

import argparse

from unfoldc.commands.common import Subparsers, add_dimensions, add_json, new_command, print_json
from unfoldc.errors import InputError, printable


def add(commands: Subparsers) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = new_command(
        commands,
        "inspect",
        run,
        "show the iterations of a model: what rolled and what not and why, state, shared weights, flops and bytes",
        "unfoldc inspect lista.onnx",
    )
    parser.add_argument("model", nargs="?", help="an ONNX file")
    parser.add_argument("--operators", action="store_true", help="list the ONNX operators that the compiler knows")
    add_dimensions(parser)
    add_json(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Print the table."""
    if arguments.operators:
        from unfoldc.kernels.inspect import operator_names

        names = operator_names()
        print_json(names) if arguments.json else print("\n".join(names))
        return
    if arguments.model is None:
        raise InputError("inspect", "no model", "an ONNX file, or --operators", "Write unfoldc inspect model.onnx.")
    from unfoldc.kernels.inspect import describe

    found = describe(arguments.model, batch=arguments.batch, dimensions=dict(arguments.dimension))
    # Names in the file are untrusted: none of their characters may steer the terminal.
    text = "\n".join(printable(line) for line in str(found).split("\n"))
    print_json(found.to_json()) if arguments.json else print(text)
