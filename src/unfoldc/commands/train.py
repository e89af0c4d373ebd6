"""`unfoldc train`: learn an unfolded solver."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unfoldc.commands.common import Subparsers, add_json, new_command, positive, print_json, table
from unfoldc.errors import InputError

if TYPE_CHECKING:
    from unfoldc.unfold_train import Outcome, Problems, Unfolded
    from unfoldc.unfold_train.tasks import Task

# One number each: learned for every iteration unless --tied names them. Matrices are tied unless it leaves them out.
_NUMBERS = ("mu", "theta", "rho")
_SCHEDULES = ("end to end", "sequential", "sequential then end to end")


def add(commands: Subparsers) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = new_command(
        commands,
        "train",
        run,
        "train an unfolded solver, or continue from a checkpoint; Ctrl-C ends it and keeps the best values so far",
        "unfoldc train --problem superresolution --learn mu,theta --iterations 10 --seconds 60 -o solver.safetensors",
    )
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the checkpoint to write")
    parser.add_argument("--continue", dest="checkpoint", metavar="FILE", help="start from the network in a checkpoint")
    parser.add_argument(
        "--problem",
        choices=["superresolution", "detection", "robust-pca"],
        default="superresolution",
        help="what to solve (default: superresolution)",
    )
    parser.add_argument(
        "--learn",
        type=_names,
        metavar="NAMES",
        help="values to learn, such as W1,W2,theta (default: A,B,D,mu,theta, or what the problem has)",
    )
    parser.add_argument(
        "--tied", type=_names, metavar="NAMES", help="those that all iterations share (default: all matrices)"
    )
    parser.add_argument(
        "--iterations", type=positive, metavar="K", help="number of iterations (default: 10, or what the problem takes)"
    )
    parser.add_argument(
        "--rho",
        type=_above_zero,
        metavar="X",
        help="weight of the l1 norm (default: the best of some on training data)",
    )
    _add_training(parser)
    parser.add_argument("--log", metavar="FILE", help="write a line of JSON for each validation")
    add_json(parser)
    return parser


def _add_training(parser: argparse.ArgumentParser) -> None:
    """What is made small, in which order, and for how long."""
    parser.add_argument(
        "--loss",
        choices=["last", "log"],
        default="log",
        help="of the last iterate alone, or of all of them (default: log, all)",
    )
    parser.add_argument("--unsupervised", action="store_true", help="minimise the objective instead of the error")
    parser.add_argument(
        "--schedule",
        choices=_SCHEDULES,
        default="end to end",
        help="which iterations learn when, in quotes (default: end to end)",
    )
    parser.add_argument(
        "--seconds",
        type=_above_zero,
        default=60.0,
        metavar="S",
        help="train for at most S seconds, fewer if --steps are done before; choosing rho comes on top (default: 60)",
    )
    parser.add_argument(
        "--steps",
        type=positive,
        default=4500,
        metavar="N",
        help="train for at most N steps within --seconds (default: 4500)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of training problems (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Train, write the checkpoint, and say how it ended."""
    from unfoldc.unfold_train import Loss, Settings, Status, Trainer, save_checkpoint

    network, training, validation, data = _prepare(arguments)
    settings = Settings(
        steps=arguments.steps,
        batch=64 if "problem" in data else 256,
        rate=0.03,
        loss=Loss(arguments.loss, not arguments.unsupervised),
        schedule=arguments.schedule,
        seed=arguments.seed,
        validate_every=250,
        budget=arguments.seconds,
    )
    trainer = Trainer(network, training, validation, settings, log=arguments.log, progress=not arguments.json)
    outcome = trainer.run()
    save_checkpoint(arguments.output, network, outcome=outcome, settings=settings, data=data)
    _report(arguments, network, outcome)
    return 130 if outcome.status is Status.INTERRUPTED else 0


def _prepare(arguments: argparse.Namespace) -> tuple[Unfolded, Problems, Problems, dict[str, Any]]:
    """The network, the problems to train and to validate it on, and what the checkpoint says of them."""
    from unfoldc.unfold_train import load_checkpoint
    from unfoldc.unfold_train.data.photographs import TRAINING
    from unfoldc.unfold_train.data.superresolution import SuperResolution
    from unfoldc.unfold_train.demo import superresolution_problems
    from unfoldc.unfold_train.tasks import find_task

    if arguments.checkpoint:
        _refuse_new_structure(arguments)
        known = load_checkpoint(arguments.checkpoint)
        network, data = known.network, known.data
        if "problem" in data:
            return network, *_drawn(*find_task(data), arguments.seed)
        problem = _described(arguments.checkpoint, data)
    elif arguments.problem != "superresolution":
        return _new_task(arguments)
    else:
        problem, data = SuperResolution(), {"photographs": list(TRAINING)}
    training, validation = superresolution_problems(problem, data["photographs"], seed=arguments.seed)
    if not arguments.checkpoint:
        network, rho = _new_network(arguments, problem, training)
        data = {**asdict(problem), **data, "rho": rho}
    return network, training, validation, data


def _new_task(arguments: argparse.Namespace) -> tuple[Unfolded, Problems, Problems, dict[str, Any]]:
    from unfoldc.unfold_train import unfold
    from unfoldc.unfold_train.tasks import find_task

    if arguments.rho is not None:
        raise InputError("--rho", "given", "--problem superresolution", "Leave it out.")
    name, task, settings = find_task({"problem": arguments.problem})
    training, validation, data = _drawn(name, task, settings, arguments.seed)
    learn = arguments.learn or list(task.learn)
    network = unfold(
        task.solver(settings),
        iterations=arguments.iterations or task.iterations,
        learn=learn,
        tied=[n for n in learn if n not in task.learn] if arguments.tied is None else arguments.tied,
        example={n: t[:2] for n, t in training.inputs.items()},
    )
    return network, training, validation, data


def _drawn(name: str, task: Task, settings: dict[str, Any], seed: int) -> tuple[Problems, Problems, dict[str, Any]]:
    from unfoldc.unfold_train.tasks import problem_sets

    training, validation, _ = problem_sets(task, settings, seed)
    return training, validation, {"problem": name, **settings}


def _new_network(arguments: argparse.Namespace, problem: Any, training: Any) -> tuple[Unfolded, float]:
    from unfoldc.unfold_train import SynthesisIsta, SynthesisLista, unfold
    from unfoldc.unfold_train.demo import ITERATIONS, LEARN, operators, tune_rho

    learn = arguments.learn or list(LEARN)
    tied = [n for n in learn if n not in _NUMBERS] if arguments.tied is None else arguments.tied
    iterations = arguments.iterations or ITERATIONS
    # W1 and W2 are the values of the full form; every other value is of the factored one too, which is faster.
    kind = SynthesisLista if {"W1", "W2"} & set(learn) else SynthesisIsta
    rho = arguments.rho or tune_rho(problem, SynthesisIsta, iterations, training, seed=arguments.seed)
    return unfold(kind(**operators(problem), rho=rho), iterations=iterations, learn=learn, tied=tied), rho


def _refuse_new_structure(arguments: argparse.Namespace) -> None:
    for name in ("learn", "tied", "iterations", "rho"):
        if getattr(arguments, name) is not None:
            raise InputError(
                f"--{name}",
                "given together with --continue",
                "options that do not change the network",
                f"Leave it out, or train a new network: --{name} is part of the checkpoint.",
            )


def _described(path: str, data: dict[str, Any]) -> Any:
    """The problem that a checkpoint's network was trained on."""
    from unfoldc.unfold_train.data.superresolution import SuperResolution

    try:
        return SuperResolution(**{name: data[name] for name in ("blur", "patch", "stride", "atoms")})
    except KeyError as missing:
        raise InputError(
            f"checkpoint {path}",
            f"it does not say what it was trained on ({missing.args[0]})",
            "checkpoints that `unfoldc train` or `unfoldc demo` wrote",
            "Continue it in Python with unfoldc.unfold_train.Trainer and your own problems.",
        ) from None


def _report(arguments: argparse.Namespace, network: Unfolded, outcome: Outcome) -> None:
    file = Path(arguments.output)
    if arguments.json:
        facts = {"status": outcome.status.name.lower(), "message": outcome.status.value, "file": str(file)}
        numbers = {"steps": outcome.steps, "seconds": outcome.seconds, "errors": list(outcome.errors)}
        print_json({**facts, **numbers, "learned_numbers": network.learned_numbers})
        return
    learned = ", ".join(f"{name}{' (tied)' if how.tied else ''}" for name, how in network.learned.items())
    print(f"{network.iterations} iterations, {network.learned_numbers} learned numbers: {learned}")
    print(f"{outcome.steps} of {arguments.steps} steps in {outcome.seconds:.1f} s: {_ended(arguments, outcome)}")
    name = "objective" if arguments.unsupervised else "squared error"
    rows = [["iteration", f"validation {name}", "" if arguments.unsupervised else "PSNR"]]
    for k, error in enumerate(outcome.errors, 1):
        decibel = "" if arguments.unsupervised else f"{-10 * math.log10(max(error, 1e-20)):.2f} dB"
        rows.append([str(k), f"{error:.4g}", decibel])
    print(table(rows, right=(0, 1, 2)))
    print(f"written to {file}")


def _ended(arguments: argparse.Namespace, outcome: Outcome) -> str:
    """How the training ended, in terms of the options."""
    if outcome.status.name == "OUT_OF_TIME":
        return f"--seconds {arguments.seconds:g} were used up; more may go further"
    return outcome.status.value


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _above_zero(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return number
