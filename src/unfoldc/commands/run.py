"""`unfoldc run`: solve problems from files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unfoldc.commands.common import (
    NOT_FINITE,
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

if TYPE_CHECKING:
    import numpy as np

    from unfoldc.runtime.result import RunResult
    from unfoldc.runtime.solver import Solver


def add(commands: Subparsers) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = new_command(
        commands,
        "run",
        run,
        "solve the problems in NumPy files and write the answers to one; exit status 3 if an answer holds NaN or Inf",
        "unfoldc run lista.onnx y.npy -o x.npy --iterations 5",
    )
    parser.add_argument("model", help="an ONNX file or a build folder (which is trusted like a program)")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="FILE.npy in the order of the inputs, NAME=FILE.npy, or FILE.npz"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write the answers to .npy, for one output, or .npz")
    parser.add_argument("--iterations", type=positive, metavar="K", help="stop after K iterations (default: all)")
    add_compilation(parser)
    add_json(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Solve, write, and say how it ended; the exit status."""
    from unfoldc.runtime import Status

    solver = open_solver(arguments)
    inputs = read_inputs(solver, arguments.inputs)
    result = solver.run(inputs, arguments.iterations)
    if arguments.output:
        write_arrays(Path(arguments.output), result.outputs)
    lacks, text = ({}, "") if result.status is not Status.NOT_FINITE else _not_finite(solver, inputs, result)
    if arguments.json:
        shapes = {name: list(array.shape) for name, array in result.outputs.items()}
        facts = {"status": result.status.name.lower(), "message": str(result.status), "iterations": result.iterations}
        print_json({**facts, "outputs": shapes, **lacks, "file": arguments.output})
    else:
        print(f"{result.iterations} of {solver.iterations} iterations: {result.status}")
        for name, array in result.outputs.items():
            place = f", in {arguments.output}" if arguments.output else ""
            print(f"{printable(name)} {array.shape} {array.dtype}, {_extent(array)}{place}")
    if not text:
        return 0
    print(f"unfoldc: {text}", file=sys.stderr)
    return NOT_FINITE


def _not_finite(solver: Solver, inputs: dict[str, Any], result: RunResult) -> tuple[dict[str, Any], str]:
    """What of the answer is not finite, and since when: for programs, and as a paragraph."""
    import numpy as np

    from unfoldc.runtime.not_finite import first_iteration, not_finite

    outputs = {p.name: found for p in solver.outputs if (found := not_finite(result.outputs[p.name], p.batched))}
    given = {p.name: found for p in solver.inputs if (found := not_finite(np.asarray(inputs[p.name]), p.batched))}
    name, first = next(iter(outputs.items()))
    problem = first.problems[0] if first.problems else None
    since = first_iteration(solver, inputs, result.iterations, problem)
    texts = [f"output {n}: {found}" for n, found in outputs.items()]
    texts += [f"first after iteration {since}"] if since is not None else []
    cause = "The inputs are finite, so the iterations diverge: check that they are scaled like the training data."
    if given:
        cause = f"Correct the input: {'; '.join(f'{n}: {found}' for n, found in given.items())}."
    facts = {n: vars(found) for n, found in outputs.items()}
    more = {n: vars(found) for n, found in given.items()}
    return (
        {"not_finite": facts, "not_finite_inputs": more, "first_not_finite_iteration": since},
        printable(f"{', '.join(texts)}; allowed: finite numbers. {cause}", 2000),
    )


def _extent(array: np.ndarray) -> str:
    """The span of an array's finite values, as a person reads it."""
    import numpy as np

    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array.astype(np.int64)
    if not finite.size:
        return "empty" if not array.size else "nothing finite"
    span = f"from {finite.min():.4g} to {finite.max():.4g}"
    return span if finite.size == array.size else f"{span} where finite"
