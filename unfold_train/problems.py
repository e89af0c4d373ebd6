"""A set of problems to train or validate on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unfoldc.errors import TrainingError
from unfoldc.unfold_train.inputs import bind_inputs, is_batched
from unfoldc.unfold_train.unfolded import Unfolded


@dataclass(frozen=True)
class Problems:
    """Inputs by name, each (N, ...) or shared by all problems, and the truth (N, n) where it is known."""

    inputs: Mapping[str, Tensor]
    truth: Tensor | None = None

    def check(self, network: Unfolded, name: str) -> int:
        """The number of problems N; raises TrainingError where data is missing, empty, NaN or of unequal length."""
        inputs = network.name_inputs(**self.inputs)
        bind_inputs(network.solver, network.sizes, inputs)
        arrays = {**inputs, **({} if self.truth is None else {"truth": self.truth})}
        for key, tensor in arrays.items():
            bad = int((~torch.isfinite(tensor)).sum())
            if bad:
                raise TrainingError(
                    f"{name} {key}",
                    f"{bad} of {tensor.numel()} numbers are NaN or infinite",
                    "finite numbers",
                    "Remove these problems or correct the data.",
                )
        lengths = {k: len(t) for k, t in inputs.items() if is_batched(network.solver, k, t)}
        if self.truth is not None:
            lengths["truth"] = len(self.truth)
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            found = ", ".join(f"{k}: {n}" for k, n in lengths.items()) or "none"
            raise TrainingError(f"{name} problems", found, "equally many of each, at least one", "Correct the arrays.")
        return next(iter(lengths.values()))

    def select(self, network: Unfolded, which: Tensor) -> Problems:
        """The problems with these numbers, (batch,)."""
        chosen = {k: t[which] if is_batched(network.solver, k, t) else t for k, t in self.inputs.items()}
        return Problems(chosen, None if self.truth is None else self.truth[which])

    def pieces(self, network: Unfolded, size: int = 2048) -> Iterator[tuple[Problems, int]]:
        """All problems in order, at most `size` at a time, with their number."""
        count = self.check(network, "validation")
        for first in range(0, count, size):
            which = torch.arange(first, min(first + size, count))
            yield self.select(network, which), len(which)
