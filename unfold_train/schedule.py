"""The phases of a training run: which iterations are trained, and for how many steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from unfoldc.errors import InputError
from unfoldc.unfold_train.unfolded import Unfolded

Schedule = Literal["end to end", "sequential", "sequential then end to end"]

# Trained layers are near a good place already; full steps would undo them.
JOINT_SCALE = 0.3


@dataclass(frozen=True)
class Phase:
    """A part of the training: the loss counts `iterations` iterates, and the values of iterations `trained` change.

    Tied values change in every phase. `scale` multiplies the learning rates.
    """

    name: str
    iterations: int
    trained: tuple[int, ...]
    steps: int
    scale: float = 1.0


def plan(schedule: Schedule, iterations: int, steps: int) -> list[Phase]:
    """The phases that share `steps` steps.

    "sequential" trains iteration after iteration, each with those before it fixed. "sequential then end to end"
    spends half of the steps on that and half on all of them together.
    """
    everything = tuple(range(iterations))
    if schedule == "end to end":
        return [Phase("end to end", iterations, everything, steps)]
    if schedule not in ("sequential", "sequential then end to end"):
        raise InputError(
            "schedule", repr(schedule), "'end to end', 'sequential', 'sequential then end to end'", "Choose one."
        )
    joint = steps // 2 if schedule != "sequential" else 0
    alone = steps - joint
    cuts = [alone * k // iterations for k in range(iterations + 1)]
    phases = [Phase(f"iteration {k + 1}", k + 1, (k,), cuts[k + 1] - cuts[k]) for k in everything]
    if joint:
        phases.append(Phase("end to end", iterations, everything, joint, JOINT_SCALE))
    return phases


def trained_values(network: Unfolded, phase: Phase) -> dict[str, list[nn.Parameter]]:
    """The parameters that a phase changes, by the name of the value."""
    names = (*network.learned, *network.learned_parts)
    return {name: network.learned_parameters(name, phase.trained) for name in names}
