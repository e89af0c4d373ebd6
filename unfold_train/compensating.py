"""`compensate`: train a network around its approximations, and say what each step of the way gave."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from unfoldc.errors import InputError
from unfoldc.unfold_train.approximating import exact
from unfoldc.unfold_train.conditions_on_data import convergence_warnings
from unfoldc.unfold_train.multiply_adds import MultiplyAdds, count_multiply_adds
from unfoldc.unfold_train.problems import Problems
from unfoldc.unfold_train.train import Outcome, Settings, Status, Trainer
from unfoldc.unfold_train.unfolded import Unfolded
from unfoldc.unfold_train.unfolding import unfold

FIGURES = ("exact", "exact and trained", "approximated", "approximated and trained")


@dataclass(frozen=True)
class Figure:
    """Of one network: its error on fresh data after each of the K iterations, and its multiply-adds."""

    name: str
    errors: tuple[float, ...]
    multiply_adds: MultiplyAdds
    status: str = ""


@dataclass(frozen=True)
class Compensation:
    """Result of `compensate`: the four figures in the order of `FIGURES`, warnings, and the networks: `network` is
    approximated and trained, `exact_network` exact and trained, `classical_network` exact with nothing learned.
    """

    figures: tuple[Figure, ...]
    warnings: tuple[str, ...]
    network: Unfolded
    exact_network: Unfolded
    classical_network: Unfolded
    outcome: Outcome
    exact_outcome: Outcome | None

    def figure(self, name: str) -> Figure:
        """One of `FIGURES`."""
        return self.figures[FIGURES.index(name)]

    def gap_closed(self, reference: str = "exact") -> float:
        """The share of the gap between approximated and `reference` that training has closed, at the last iterate; NaN
        where approximated is as good as that already, to a hundredth."""
        names = ("approximated", "approximated and trained", reference)
        before, after, goal = (self.figure(name).errors[-1] for name in names)
        return (before - after) / (before - goal) if before > goal + 0.01 * abs(goal) else math.nan

    def to_json(self) -> str:
        """Figures and warnings as JSON."""
        figures = [{**asdict(f), "multiply_adds": _plain(f.multiply_adds)} for f in self.figures]
        return json.dumps({"figures": figures, "warnings": list(self.warnings)}, indent=2)

    def __str__(self) -> str:
        head = ["iteration", *FIGURES, "multiply-adds: exact", "exact and trained", "approximated"]
        costs = [self.figures[i].multiply_adds for i in (0, 1, 3)]
        rows = [["begin", "", "", "", "", *(str(c.begin) for c in costs)]]
        for k in range(len(self.figures[0].errors)):
            errors = [f"{f.errors[k]:.4g}" for f in self.figures]
            rows.append([str(k + 1), *errors, *(str(c.iterations[k]) for c in costs)])
        rows.append(["all", "", "", "", "", *(str(c.total) for c in costs)])
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in [head, *rows]]
        return "\n".join([*lines, *self.remarks()])

    def remarks(self) -> list[str]:
        """What is computed once, the share of the gap that is closed, how training ended, and the warnings."""
        found = []
        for figure in self.figures:
            for site, count in figure.multiply_adds.once.items():
                found.append(f"{figure.name}: site {site} factors its matrix once, {count} multiply-adds in begin")
            if figure.status:
                found.append(f"{figure.name}: {figure.status}")
        found += [self._gap(name) for name in FIGURES[:2]]
        return [*found, *(f"warning: {text}" for text in self.warnings)]

    def _gap(self, reference: str) -> str:
        share = self.gap_closed(reference)
        if math.isnan(share):
            return f"approximated, as it was given, is no worse than {reference}: there is no gap to close"
        if share > 1:
            return f"training closed the gap to {reference} and went below it"
        return f"training closed {100 * share:.0f} % of the gap to {reference}"


def compensate(
    network: Unfolded,
    training: Problems,
    *,
    fresh: Problems,
    validation: Problems | None = None,
    settings: Settings | None = None,
    exact_from: Compensation | None = None,
    progress: bool = True,
) -> Compensation:
    """Train an approximated network so that its learned values make up for the approximation.

    The iterations are trained one after the other, then end to end, unless `settings` says otherwise; the network
    without its approximations is trained in the same way. Four figures come back, on `fresh` problems that neither has
    seen: the classical solver, exact; the exact network, trained; the network as it was given; and trained. None of the
    networks given is changed. `exact_from`, an earlier result with the same data and settings, spares the training of
    the exact network.

    Ctrl-C ends the training that is under way, and the one after it does not begin; what was reached is reported.

    Raises InputError where nothing is approximated, TrainingError as `Trainer` does.
    """
    if not isinstance(network, Unfolded):
        raise InputError(
            "compensate",
            f"found {type(network).__name__}",
            "an Unfolded network, whose iterates are known",
            "Train other modules as you always do: what approximations learn is among their parameters.",
        )
    if not network.approximated:
        raise InputError(
            "compensate", "a network without approximations", "the result of approximate(...)", "Call it first."
        )
    if network.is_frozen:
        raise InputError("compensate", "a frozen network", "the network it was made from", "Compensate it first.")
    settings = settings or Settings(schedule="sequential then end to end")
    settings.loss.errors(network, fresh)  # data that do not fit are found before training, not after
    warnings = convergence_warnings(network, training.inputs)
    trained, outcome = _train(network, training, validation, settings, "approximated", progress)
    plain = exact(network)
    exact_outcome = None
    if exact_from is not None:
        plain, exact_outcome = exact_from.exact_network, exact_from.exact_outcome
    elif plain.learned and outcome.status is not Status.INTERRUPTED:
        plain, exact_outcome = _train(plain, training, validation, settings, "exact", progress)
    classical = unfold(network.solver, iterations=network.iterations, example=network.example)
    networks = (classical, plain, network, trained)
    ended = ("", exact_outcome.status.value if exact_outcome else "not trained", "", outcome.status.value)
    figures = tuple(
        Figure(name, tuple(settings.loss.errors(n, fresh)), count_multiply_adds(n, fresh.inputs), how)
        for name, n, how in zip(FIGURES, networks, ended, strict=True)
    )
    return Compensation(figures, warnings, trained, plain, classical, outcome, exact_outcome)


def _train(
    network: Unfolded,
    training: Problems,
    validation: Problems | None,
    settings: Settings,
    title: str,
    progress: bool,
) -> tuple[Unfolded, Outcome]:
    own = copy.deepcopy(network)
    outcome = Trainer(own, training, validation, settings, progress=progress, title=title).run()
    return own, outcome


def _plain(cost: MultiplyAdds) -> dict[str, Any]:
    return {**asdict(cost), "once": dict(cost.once), "total": cost.total}
