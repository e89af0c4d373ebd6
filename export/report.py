"""What an export did, for the user to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path


@dataclass(frozen=True)
class ExportReport:
    """The result of `export_onnx`; `str()` gives a table.

    Attributes:
        path: the file written.
        iterations: K.
        found_by: how the iterations were found, in words.
        states: name of each state, with the type and shape of its value ("float32[batch, 64]").
        nodes: number of nodes of `begin`, of each `iteration.<k>`, of `end` (without what makes the iterates).
        stored_bytes: size of all constants in the file.
        shared_bytes: what a copy for each iteration of what several read would have taken in addition.
        error: largest error against PyTorch relative to the norm, None if it was not measured.
        error_limit: what was allowed, None if it was not measured.
        checked_by: what ran the file for that: ONNX Runtime, or ONNX's reference evaluator where that lacks an operator
            in float64; "" if nothing did.
        runs: how many inputs were compared.
        iterates_compared: whether the iterates were among what was compared.
        opset: version of the operator set.
        inputs: name and type of each input.
        outputs: name and type of each output, without the iterates.
        iterates: for each output the names of its iterates in the file.
    """

    path: Path
    iterations: int
    found_by: str
    states: Mapping[str, str]
    nodes: Mapping[str, int]
    stored_bytes: int
    shared_bytes: int
    error: float | None
    error_limit: float | None
    checked_by: str
    runs: int
    iterates_compared: bool
    opset: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    iterates: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        apart = self.stored_bytes + self.shared_bytes
        rows = [
            ("file", f"{self.path} (opset {self.opset})"),
            ("iterations", f"{self.iterations}, found by {self.found_by}"),
            ("inputs", _listed(self.inputs)),
            ("outputs", _listed(self.outputs) + (f"; iterates of {', '.join(self.iterates)}" if self.iterates else "")),
            ("states", _listed(self.states) or "none"),
            ("nodes", self._nodes()),
            ("weights", f"{self.stored_bytes} bytes in the file, {apart} with a copy for each iteration"),
            ("checked", self._checked()),
        ]
        return "\n".join(f"{name:<12}{text}" for name, text in rows)

    def _nodes(self) -> str:
        parts = []
        for count, group in groupby(self.nodes.items(), key=lambda item: (item[1], item[0].partition(".")[0])):
            names = [name for name, _ in group]
            parts.append(f"{names[0]}{f' to {names[-1]}' if len(names) > 1 else ''}: {count[0]}")
        return ", ".join(parts)

    def _checked(self) -> str:
        if self.error is None:
            return "by the ONNX checker only"
        what = " and every iterate" if self.iterates_compared else ""
        return (
            f"against PyTorch on {self.runs} inputs{what}: largest relative error {self.error:.1e} "
            f"(allowed {self.error_limit:.0e}; run by {self.checked_by})"
        )


def _listed(entries: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {type_}" for name, type_ in entries.items())
