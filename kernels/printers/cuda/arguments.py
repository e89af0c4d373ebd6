"""The arguments of a kernel and what a launch must know, the same for all forms of a solver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unfoldc.kernels.gpu.places import element_type
from unfoldc.kernels.loops import LoopProgram

if TYPE_CHECKING:
    from unfoldc.kernels.artifact import Port

_ALIGNMENT = 64  # bytes


@dataclass(frozen=True)
class Arguments:
    """`ports` gives each input and output its port; `weights` each type its constants, with their first elements.

    Arrays are named by their number: x0, x1, ... are the inputs, y0, ... the outputs.
    """

    program: LoopProgram
    ports: Mapping[str, Port]
    weights: Mapping[str, tuple[int, Mapping[str, int]]]

    @property
    def rows(self) -> list[list[object]]:
        """Name, type, kind and number of each argument, in order."""
        program = self.program
        rows: list[list[object]] = []
        for kind, names in (("input", program.inputs), ("output", program.outputs)):
            for i, name in enumerate(names):
                rows.append([self.array(name), f"{element_type(program.buffers[name].dtype)}*", kind, i])
        rows += [[f"weights_{t}", f"{t}*", "weights", i] for i, t in enumerate(self.weights)]
        rows.append(["workspace", "uint8*", "workspace"])
        rows += [[name, "int32", name] for name in ("batch", "iterations")]
        return [*rows, ["ticks", "int64*", "ticks"]]

    def array(self, buffer: str) -> str:
        """The name of an input's or output's array."""
        program = self.program
        outputs = program.outputs
        return f"y{outputs.index(buffer)}" if buffer in outputs else f"x{program.inputs.index(buffer)}"

    @property
    def names(self) -> list[str]:
        """The names in the order of the signature."""
        return [str(row[0]) for row in self.rows]


def arguments(program: LoopProgram, inputs: Sequence[Port], outputs: Sequence[Port]) -> Arguments:
    """The arguments of a program's kernels; constants lie side by side, one array for each type."""
    ports = dict(zip((*program.inputs, *program.outputs), (*inputs, *outputs), strict=True))
    weights: dict[str, tuple[int, dict[str, int]]] = {}
    for name, buffer in sorted(program.buffers.items()):
        if buffer.space == "constant":
            dtype = element_type(buffer.dtype)
            width = np.dtype(dtype).itemsize
            start, entries = weights.get(dtype, (0, {}))
            following = -(-(start + buffer.size) * width // _ALIGNMENT) * _ALIGNMENT // width
            weights[dtype] = (following, {**entries, name: start})
    return Arguments(program, ports, dict(sorted(weights.items())))
