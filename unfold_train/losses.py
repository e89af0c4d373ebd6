"""What training minimises: which iterates count, and what they are compared with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from unfoldc.errors import InputError, TrainingError
from unfoldc.unfold_train.problems import Problems
from unfoldc.unfold_train.unfolded import Unfolded
from unfoldc.unfold_train.values import View

Weighting = Literal["last", "log"]


@dataclass(frozen=True)
class Loss:
    """A weighted mean over the iterates of their error.

    weighting "last" counts the last iterate alone; "log" weighs the k-th of K iterates (k = 1..K) by log(1 + k).
    The error is the mean squared difference to the truth if `supervised`, else the classical objective, which needs
    no truth. Raises TrainingError where the truth is missing or has another shape than the estimate.
    """

    weighting: Weighting = "last"
    supervised: bool = True

    def __post_init__(self) -> None:
        if self.weighting not in ("last", "log"):
            raise InputError("Loss(weighting=...)", repr(self.weighting), "'last' or 'log'", "Choose one of these.")

    def __call__(self, network: Unfolded, problems: Problems, iterations: int | None = None) -> Tensor:
        """The loss of these problems after 1 to `iterations` iterations, K unless given: a scalar."""
        last = network.iterations if iterations is None else iterations
        weights = self.weights(last)
        terms = []
        for weight, (v, state) in zip(weights, network.trajectory(problems.inputs, last), strict=True):
            if weight > 0:
                terms.append(weight * self._error(network, problems, v, state))
        return torch.stack(terms).sum()

    def weights(self, iterations: int) -> list[float]:
        """The weight of each iterate; they sum to 1."""
        if self.weighting == "last":
            return [0.0] * (iterations - 1) + [1.0]
        logs = [math.log(1 + k) for k in range(1, iterations + 1)]
        return [w / sum(logs) for w in logs]

    @torch.no_grad()
    def errors(self, network: Unfolded, problems: Problems) -> list[float]:
        """The error after each of the K iterations, over all problems."""
        total = [0.0] * network.iterations
        count = 0
        for piece, size in problems.pieces(network):
            for k, (v, state) in enumerate(network.trajectory(piece.inputs)):
                total[k] += size * float(self._error(network, piece, v, state))
            count += size
        return [t / count for t in total]

    def combine(self, errors: list[float]) -> float:
        """The loss that belongs to the errors after iterations 1, 2, ..."""
        return sum(w * e for w, e in zip(self.weights(len(errors)), errors, strict=True) if w)

    def _error(self, network: Unfolded, problems: Problems, v: View, state: Any) -> Tensor:
        if not self.supervised:
            return network.objective(problems.inputs, state).mean()
        estimate = network.end(v, state)
        truth = problems.truth
        if truth is None or truth.shape != estimate.shape:
            found = "no truth" if truth is None else f"truth of shape {tuple(truth.shape)}"
            raise TrainingError(
                "supervised loss", found, f"shape {tuple(estimate.shape)}", "Give the truth or use supervised=False."
            )
        error: Tensor = (estimate - truth).square().mean()
        return error
