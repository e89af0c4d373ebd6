"""`unfoldc approximate`: replace operations of a trained solver by cheap ones, train around them, and compare."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unfoldc.commands.common import Subparsers, add_json, new_command, print_json, table
from unfoldc.commands.progress import status
from unfoldc.errors import InputError, UnfoldcError

if TYPE_CHECKING:
    from unfoldc.unfold_train import Unfolded
    from unfoldc.unfold_train.approximations import Approximation
    from unfoldc.unfold_train.compensating import Compensation

_OPERATIONS = ("inverse", "solve", "svd", "exp", "log", "tanh", "sigmoid", "sqrt", "reciprocal")


def add(commands: Subparsers) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = new_command(
        commands,
        "approximate",
        run,
        "replace operations of a trained solver by cheap ones, train it to make up for them, and compare",
        "unfoldc approximate detector.safetensors --solve neumann:2,warm,learn=scalar --target stm32f407",
    )
    parser.add_argument("checkpoint", help="what `unfoldc train --problem detection` or robust-pca wrote")
    for name in _OPERATIONS:
        parser.add_argument(f"--{name}", metavar="HOW", help=f"approximation of {name}, such as {_EXAMPLES[name]}")
    parser.add_argument(
        "--site", action="append", default=[], metavar="NAME=HOW", help="approximation at one call site, such as L=skip"
    )
    parser.add_argument(
        "--iterations", type=_iterations, metavar="A-B", help="those approximated, from 0 on (default: all)"
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=60.0,
        metavar="S",
        help="at most, for each of the two trainings (default: 60)",
    )
    parser.add_argument(
        "--steps", type=int, default=3000, metavar="N", help="at most, of each training (default: 3000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the problems (default: 0)")
    parser.add_argument(
        "--target",
        default="host",
        help="device to compile for; `unfoldc targets` lists them (default: host, this computer)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write the trained, approximated network here")
    add_json(parser)
    return parser


_EXAMPLES = {
    "inverse": "newton-schulz:1,warm",
    "solve": "neumann:2,warm,learn=scalar",
    "svd": "truncated-svd:2,warm",
    "exp": "polynomial-exp:4",
    "log": "polynomial-log:4",
    "tanh": "polynomial-tanh:5",
    "sigmoid": "polynomial-sigmoid:5",
    "sqrt": "newton-sqrt:2",
    "reciprocal": "newton-reciprocal:2",
}


def run(arguments: argparse.Namespace) -> int:
    """Approximate, train, compile both solvers, and print the table."""
    from unfoldc.targets import find_target
    from unfoldc.unfold_train import Loss, Settings, Status, load_checkpoint, save_checkpoint
    from unfoldc.unfold_train.approximating import approximate, call_sites
    from unfoldc.unfold_train.compensating import FIGURES, compensate
    from unfoldc.unfold_train.tasks import find_task, problem_sets

    find_target(arguments.target)  # a name that is wrong should not be found out after the training
    operations = _operations(arguments)
    known = load_checkpoint(arguments.checkpoint)
    if not operations:
        sites = dict.fromkeys(f"{visit.site} ({visit.operation})" for visit in call_sites(known.network))
        allowed = f"an operation (--solve, --inverse, ...) or --site; its call sites: {', '.join(sites) or 'none'}"
        raise InputError("approximate", "nothing to approximate", allowed, "Give at least one of these options.")
    network = approximate(known.network, operations, iterations=arguments.iterations)
    name, task, settings = find_task(known.data)
    training, validation, fresh = problem_sets(task, settings, arguments.seed)
    how = Settings(
        steps=arguments.steps,
        batch=64,
        loss=Loss("log"),
        schedule="sequential then end to end",
        budget=arguments.seconds,
        validate_every=50,
        seed=arguments.seed,
    )
    found = compensate(network, training, fresh=fresh, validation=validation, settings=how, progress=not arguments.json)
    if arguments.output:
        data = {"problem": name, **settings}
        save_checkpoint(arguments.output, found.network, outcome=found.outcome, settings=how, data=data)
    with status() as progress:
        progress(f"compiling for {arguments.target}")
        one = {n: t[:1].numpy() for n, t in fresh.inputs.items()}
        devices = {
            title: _device(net, one, arguments.target)
            for title, net in zip(
                FIGURES, (found.classical_network, found.exact_network, network, found.network), strict=True
            )
        }
    _report(arguments, found, devices)
    outcomes = (found.outcome, found.exact_outcome)
    return 130 if any(o is not None and o.status is Status.INTERRUPTED for o in outcomes) else 0


def _operations(arguments: argparse.Namespace) -> dict[str, Approximation]:
    from unfoldc.unfold_train.approximations.text import read_approximation

    given = {name: getattr(arguments, name) for name in _OPERATIONS if getattr(arguments, name)}
    operations = {name: read_approximation(text, name) for name, text in given.items()}
    for item in arguments.site:
        site, equals, text = item.partition("=")
        if not equals or not site or site in operations:
            raise InputError("--site", item, "NAME=HOW, each site once, such as L=skip", "Correct the option.")
        operations[site] = read_approximation(text)
    return operations


def _device(network: Unfolded, inputs: dict[str, Any], target: str) -> dict[str, Any]:
    """What a network costs on the target: sizes, and instructions or time; or the reason why it does not run there."""
    from unfoldc import pipeline
    from unfoldc.export import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "solver.onnx"
        try:
            frozen = network.frozen()
            export_onnx(frozen, frozen.example_inputs, path, iterations="iteration", output_names=["x"])
            profile = pipeline.compile(path, target, batch=1).profile(inputs, repeats=300)
        except UnfoldcError as problem:
            return {"problem": str(problem)}
    emulated = profile.instructions is not None
    return {
        "flash_bytes": profile.constant_bytes if profile.flash_bytes is None else profile.flash_bytes,
        "ram_bytes": profile.state_bytes if profile.ram_bytes is None else profile.ram_bytes,
        "stack_bytes": profile.stack_bytes,
        "instructions": profile.instructions,
        "seconds": profile.seconds_p50,
        "estimated_seconds": profile.estimated_seconds,
        "iterations": [row.instructions if emulated else row.seconds_p50 for row in profile.iterations],
    }


def _report(arguments: argparse.Namespace, found: Compensation, devices: dict[str, dict[str, Any]]) -> None:
    if arguments.json:
        print_json({**json.loads(found.to_json()), "target": arguments.target, "devices": devices})
        return
    from unfoldc.runtime.profile import duration

    print(found)
    rows = [[f"on {arguments.target}", *_memories(arguments.target), "instructions", "time", "time (est.)"]]
    for title, device in devices.items():
        if "problem" not in device:
            counted = "" if device["instructions"] is None else str(device["instructions"])
            times = ["" if t is None else duration(t) for t in (device["seconds"], device["estimated_seconds"])]
            rows.append([title, f"{device['flash_bytes']} bytes", f"{device['ram_bytes']} bytes", counted, *times])
    known = [column for column in zip(*rows, strict=True) if any(column[1:])]
    rows = [list(row) for row in zip(*known, strict=True)]
    if len(rows) > 1:
        print(table(rows, right=tuple(range(1, len(known)))))
    for title, device in devices.items():
        if "problem" in device:
            print(f"{title}: not compiled: {device['problem']}")
    if arguments.output:
        print(f"written to {arguments.output}")


def _memories(target: str) -> tuple[str, str]:
    """What the two sizes of a solver are on a target."""
    from unfoldc.targets import find_target

    found = find_target(target)
    if found.kind != "emulated":
        return "constants", "state"
    return "code and constants" if found.has_system else "flash", "RAM"


def _iterations(text: str) -> list[int]:
    first, dash, last = text.partition("-")
    try:
        low, high = int(first), int(last if dash else first)
    except ValueError:
        low, high = 0, -1
    # More than a network has are refused later; a list of them all may not fit the memory.
    if not 0 <= low <= high <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not a number or a range such as 1-4")
    return list(range(low, high + 1))


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return number
