"""`unfoldc profile`: time, instructions and error of each iteration."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unfoldc.commands.common import (
    Subparsers,
    add_compilation,
    add_json,
    new_command,
    open_solver,
    positive,
    print_json,
    read_arrays,
    read_inputs,
)

if TYPE_CHECKING:
    from unfoldc.runtime.solver import Solver


def add(commands: Subparsers) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = new_command(
        commands,
        "profile",
        run,
        "measure the time of each iteration, on an emulated device count its instructions, and say its error",
        "unfoldc profile lista.onnx y.npy --truth x.npy --repeats 1000",
    )
    parser.add_argument("model", help="an ONNX file or a build folder (which is trusted like a program)")
    parser.add_argument(
        "inputs", nargs="*", metavar="INPUT", help="as for `unfoldc run`; without any, one problem of random numbers"
    )
    parser.add_argument(
        "--truth",
        metavar="FILE",
        help="the right answers, .npy, to which errors are relative (default: the solver's own last answer)",
    )
    parser.add_argument(
        "--repeats", type=positive, default=1000, metavar="N", help="repetitions where time is measured (default: 1000)"
    )
    add_compilation(parser)
    add_json(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Measure and print the table."""
    solver = open_solver(arguments)
    inputs = read_inputs(solver, arguments.inputs) if arguments.inputs else _random(solver)
    truth = read_arrays(Path(arguments.truth)) if arguments.truth else None
    profile = solver.profile(inputs, repeats=arguments.repeats, truth=truth)
    if not arguments.inputs:
        print("no inputs were given: measured on random numbers, so the errors mean little", file=sys.stderr)
    print_json(profile.to_json()) if arguments.json else print(profile)


def _random(solver: Solver) -> dict[str, Any]:
    """One problem of random numbers, or as many as the solver was compiled for."""
    from unfoldc.runtime.contest import random_inputs

    arrays = random_inputs(solver.artifact, solver.batch or 1)
    return {port.name: array for port, array in zip(solver.inputs, arrays, strict=True)}
