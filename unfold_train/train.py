"""The trainer: Adam with a rate for each value, validation, early stopping, a time budget, and a log."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unfoldc.errors import InputError, TrainingError
from unfoldc.unfold_train.losses import Loss
from unfoldc.unfold_train.problems import Problems
from unfoldc.unfold_train.progress import TrainingProgress
from unfoldc.unfold_train.schedule import Phase, Schedule, plan, trained_values
from unfoldc.unfold_train.threads import torch_threads
from unfoldc.unfold_train.unfolded import Unfolded

_FIRST_STEPS = 5


class Status(Enum):
    """How a training run ended; the network holds the best values seen on the validation problems in every case."""

    FINISHED = "all steps were done"
    CONVERGED = "stopped early: the validation loss no longer fell; more patience or a larger rate may go further"
    OUT_OF_TIME = "the time budget was used up before the last step; a larger budget may go further"
    INTERRUPTED = "interrupted; the best values so far were kept"


@dataclass(frozen=True)
class Settings:
    """How to train.

    `rate` is the size of a step relative to the value: Adam's rate for the logarithm of a positive value, and times
    its root mean square at the start otherwise; `rates` overrides it by name. Rates fall along a half
    cosine to `last_rate` of themselves within each phase. `batch` is in problems, `budget` in seconds (None: no
    limit); where the steps do not fit the budget, fewer are done and the rates fall sooner. `patience` is a number of
    validations without progress after which a phase stops (None: never). `clip` bounds the norm of the gradient.
    """

    steps: int = 2000
    batch: int = 512
    rate: float = 0.02
    rates: Mapping[str, float] = field(default_factory=dict)
    last_rate: float = 0.02
    loss: Loss = field(default_factory=Loss)
    schedule: Schedule = "end to end"
    seed: int = 0
    validate_every: int = 100
    patience: int | None = None
    budget: float | None = None
    clip: float = 1.0
    threads: int = 1

    def __post_init__(self) -> None:
        positive = ("steps", "batch", "rate", "validate_every", "clip", "threads")
        for name in (*positive, *(n for n in ("patience", "budget") if getattr(self, n) is not None)):
            if not getattr(self, name) > 0:
                raise InputError(f"Settings({name}=...)", f"{getattr(self, name)}", "above zero", f"Correct {name}.")

    def to_json(self) -> dict[str, Any]:
        """Plain data for logs and checkpoints."""
        return {**asdict(self), "rates": dict(self.rates)}


@dataclass(frozen=True)
class Outcome:
    """The end of a training run. `errors` are the validation errors after each of the K iterations, `seconds` wall
    time, `log` one row for each validation."""

    status: Status
    steps: int
    seconds: float
    errors: tuple[float, ...]
    log: tuple[dict[str, Any], ...]


class Trainer:
    """Trains a network in place.

    Each phase validates before its first step too and ends with the best values it saw, so that training end to end
    never ends worse on the validation problems than the classical solver. Ctrl-C at any time ends the run as usual
    with the best values so far. Without validation problems the training ones are used. Runs with equal seeds and
    enough time give equal numbers on one machine.

    Raises TrainingError where nothing is learned, the data does not fit, or the loss is not finite.
    """

    def __init__(
        self,
        network: Unfolded,
        training: Problems,
        validation: Problems | None = None,
        settings: Settings | None = None,
        *,
        log: str | Path | None = None,
        progress: bool = True,
        title: str = "training",
    ) -> None:
        self.network = network
        self.training = training
        self.validation = training if validation is None else validation
        self.settings = Settings() if settings is None else settings
        self.log_path = None if log is None else Path(log)
        self.shown = progress
        self.title = title
        self.count = training.check(network, "training")
        self.validation.check(network, "validation")
        learned = (*network.learned, *network.learned_parts)
        unknown = set(self.settings.rates) - set(learned)
        if unknown:
            raise InputError(
                "Settings(rates=...)", ", ".join(sorted(unknown)), ", ".join(learned), "Name learned values."
            )
        if not learned:
            raise TrainingError(
                type(network.solver).__name__,
                "nothing is learned",
                "at least one name",
                "Write unfold(..., learn=[...]).",
            )
        self.rows: list[dict[str, Any]] = []
        self.done = 0
        self.note = ""

    def run(self) -> Outcome:
        """Train by the settings; the network ends with the best values seen in the last phase."""
        settings = self.settings
        phases = plan(settings.schedule, self.network.iterations, settings.steps)
        if self.log_path is not None:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            self.log_path.write_text("")
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.started = time.monotonic()
        self.done = 0
        self.rows = []
        status = Status.FINISHED
        with torch_threads(settings.threads), TrainingProgress(self.title, settings.steps, self.shown) as self.bar:
            try:
                for number, phase in enumerate(phases):
                    ended = self._phase(phase, sum(p.steps for p in phases[number:]))
                    status = ended if ended is not Status.FINISHED else status
                    if ended is Status.INTERRUPTED:
                        break
            except KeyboardInterrupt:
                status = Status.INTERRUPTED
            errors = tuple(settings.loss.errors(self.network, self.validation))
        self.network.validation_errors = errors
        seconds = time.monotonic() - self.started
        return Outcome(status, self.done, seconds, errors, tuple(self.rows))

    def _phase(self, phase: Phase, remaining: int) -> Status:
        settings = self.settings
        values = trained_values(self.network, phase)
        groups = [
            {"params": parameters, "lr": phase.scale * self._rate(name, parameters)}
            for name, parameters in values.items()
            if parameters
        ]
        parameters = [p for group in values.values() for p in group]
        best = _Best(parameters)
        began, start = time.monotonic(), self.done
        share = None if settings.budget is None else self._left() * phase.steps / max(remaining, 1)
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        try:
            best.offer(self._validate(phase, None, 0.0))
            if not parameters or not phase.steps:
                return Status.FINISHED
            optimiser = torch.optim.Adam(groups)
            rates = [group["lr"] for group in optimiser.param_groups]
            step, total, since = 0, 0.0, 0
            while step < (steps := self._affordable(phase.steps, step, time.monotonic() - began, share)):
                fall = settings.last_rate + (1 - settings.last_rate) * 0.5 * (1 + math.cos(math.pi * step / steps))
                for group, rate in zip(optimiser.param_groups, rates, strict=True):
                    group["lr"] = rate * fall
                total += self._step(phase, optimiser, parameters)
                step, since = step + 1, since + 1
                self.done = start + step
                if step % settings.validate_every == 0:
                    best.offer(self._validate(phase, total / since, fall))
                    total, since = 0.0, 0
                    if settings.patience is not None and best.waited >= settings.patience:
                        return Status.CONVERGED
                self.bar.update(self.done, self.note, start + steps + remaining - phase.steps)
            if since:
                best.offer(self._validate(phase, total / since, settings.last_rate))
            return Status.FINISHED if step == phase.steps else Status.OUT_OF_TIME
        except KeyboardInterrupt:
            return Status.INTERRUPTED
        finally:
            best.restore()
            for parameter in self.network.parameters():
                parameter.requires_grad_(True)

    @staticmethod
    def _affordable(steps: int, step: int, elapsed: float, share: float | None) -> int:
        """How many steps the phase can have at the speed so far; a fifth of its time is spent before that is judged."""
        if share is None:
            return steps
        if elapsed >= share:
            return min(steps, max(step, 1))
        if step < _FIRST_STEPS or elapsed < 0.2 * share:  # the first steps are slow: they load what is used later
            return steps
        return min(steps, int(step * share / max(elapsed, 1e-9)))

    def _step(self, phase: Phase, optimiser: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> float:
        which = torch.randint(self.count, (min(self.settings.batch, self.count),), generator=self.generator)
        loss = self.settings.loss(self.network, self.training.select(self.network, which), phase.iterations)
        number = float(loss.detach())
        self._demand_finite(number, phase)
        self.network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        optimiser.step()
        return number

    def _validate(self, phase: Phase, training: float | None, fall: float) -> float:
        errors = self.settings.loss.errors(self.network, self.validation)
        loss = self.settings.loss.combine(errors[: phase.iterations])
        self._demand_finite(loss, phase)
        row = {
            "phase": phase.name,
            "step": self.done,
            "seconds": round(time.monotonic() - self.started, 3),
            "rate": fall * phase.scale * self.settings.rate,
            "training_loss": training,
            "validation_loss": loss,
            "validation_errors": errors,
        }
        self.rows.append(row)
        if self.log_path is not None:
            with self.log_path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        self.note = f"validation loss {loss:.4g}"
        return loss

    def _rate(self, name: str, parameters: list[nn.Parameter]) -> float:
        rate = self.settings.rates.get(name, self.settings.rate)
        known = self.network.learned.get(name)
        if (known is not None and known.positive) or not parameters:
            return rate
        size = float(torch.stack([p.detach().square().mean() for p in parameters]).mean().sqrt())
        return rate * (size if size > 0 else 1.0)

    def _left(self) -> float:
        assert self.settings.budget is not None
        return max(self.settings.budget - (time.monotonic() - self.started), 0.0)

    def _demand_finite(self, loss: float, phase: Phase) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"{self.title}, {phase.name}, step {self.done}",
                f"the loss is {loss}",
                "a finite loss",
                "Lower the rate or clip, or check the scale of the data and the step size: the solver diverges.",
            )


class _Best:
    """The best values of some parameters so far."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.loss = math.inf
        self.waited = 0
        self.kept: list[Tensor] = [p.detach().clone() for p in parameters]

    def offer(self, loss: float) -> None:
        if loss < self.loss:
            self.loss, self.waited = loss, 0
            self.kept = [p.detach().clone() for p in self.parameters]
        else:
            self.waited += 1

    @torch.no_grad()
    def restore(self) -> None:
        for parameter, kept in zip(self.parameters, self.kept, strict=True):
            parameter.copy_(kept)
