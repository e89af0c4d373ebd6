"""What an inspection says of every model, of one that is compiled as of one that is split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from unfoldc.kernels.artifact import Port


@dataclass(frozen=True)
class ModelReport:
    """Name, iterations and ports of a model; the field order is that of the JSON."""

    path: str
    iterations: int
    boundaries: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: tuple[str, ...]

    @property
    def rolled(self) -> bool:
        """Whether all iterations share one body."""
        raise NotImplementedError

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps({**asdict(self), "rolled": self.rolled}, indent=2)

    def heading(self) -> list[str]:
        """The first lines of the text."""
        return [
            f"{self.path}: {self.iterations} iterations, found by "
            f"{self.boundaries or 'nothing: the whole graph counts as one'}",
            f"  inputs   {', '.join(self.inputs)}",
            f"  outputs  {', '.join(self.outputs)}",
            f"  states   {', '.join(self.states) or 'none'}",
        ]

    def verdict(self, reasons: Sequence[str], hoisted: Sequence[str], early_stop: str) -> list[str]:
        """The last lines of the text: whether the iterations rolled, or why not, and where the solver may stop."""
        return [
            "  rolled into one iteration" if self.rolled else "  not rolled into one iteration:",
            *(f"    {reason}" for reason in reasons),
            *([f"  computed once in begin: {', '.join(hoisted)}"] if hoisted else []),
            f"  early stop: {early_stop or 'after any iteration'}",
        ]


def port_text(port: Port) -> str:
    """A port as an inspection names it."""
    return f"{port.name} {list(port.shape)} {port.dtype}{' per problem' if port.batched else ''}"


def part_text(first: int, count: int) -> str:
    """The iterations that share a body."""
    return f"iteration {first}" if count == 1 else f"iterations {first}-{first + count - 1}"
