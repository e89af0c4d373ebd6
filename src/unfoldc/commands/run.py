"""`unfoldc run`: solve problems from files."""

from __future__ import annotations

import argparse
from pathlib import Path

from unfoldc.commands.common import (
    Subparsers,
    add_compilation,
    add_json,
    new_command,
    open_solver,
    positive,
    print_json,
    read_inputs,
    write_arrays,
)
from unfoldc.errors import printable


def add(commands: Subparsers) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = new_command(
        commands,
        "run",
        run,
        "solve the problems in NumPy files and write the answers to one",
        "unfoldc run lista.onnx y.npy -o x.npy --iterations 5",
    )
    parser.add_argument("model", help="an ONNX file or a build folder (which is trusted like a program)")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="FILE.npy in the order of the inputs, NAME=FILE.npy, or FILE.npz"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help=".npy for one output, .npz for any number")
    parser.add_argument("--iterations", type=positive, metavar="K", help="stop after this many")
    add_compilation(parser)
    add_json(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Solve, write, and say how it ended."""
    solver = open_solver(arguments)
    result = solver.run(read_inputs(solver, arguments.inputs), arguments.iterations)
    if arguments.output:
        write_arrays(Path(arguments.output), result.outputs)
    if arguments.json:
        shapes = {name: list(array.shape) for name, array in result.outputs.items()}
        facts = {"status": result.status.name.lower(), "message": str(result.status), "iterations": result.iterations}
        print_json({**facts, "outputs": shapes, "file": arguments.output})
        return
    print(f"{result.iterations} of {solver.iterations} iterations: {result.status}")
    for name, array in result.outputs.items():
        extent = f"from {array.min():.4g} to {array.max():.4g}" if array.size else "empty"
        place = f", in {arguments.output}" if arguments.output else ""
        print(f"{printable(name)} {array.shape} {array.dtype}, {extent}{place}")
