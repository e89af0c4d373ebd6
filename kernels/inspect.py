"""What the compiler makes of a model: iterations, what rolled, states, shared weights, cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unfoldc.errors import printable
from unfoldc.kernels.cost import cost
from unfoldc.kernels.inspection_text import ModelReport, part_text, port_text
from unfoldc.kernels.lower import lower
from unfoldc.kernels.operators import OPERATORS
from unfoldc.kernels.passes.find_streams import port_streams
from unfoldc.kernels.pipeline import load_program
from unfoldc.kernels.program import Program
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.kernels.reading.onnx_nodes import known_operators


@dataclass(frozen=True)
class SegmentReport:
    """Iterations `first .. first + count - 1` share one body of `nodes` nodes; flops and bytes are per iteration."""

    first: int
    count: int
    nodes: int
    per_iteration_constants: int
    flops: int
    bytes: int


@dataclass(frozen=True)
class Inspection(ModelReport):
    """Result of `describe`; bytes of weights before sharing and after."""

    streams: Mapping[str, list[str]]
    segments: tuple[SegmentReport, ...]
    not_rolled: tuple[str, ...]
    hoisted: tuple[str, ...]
    early_stop: str
    begin_flops: int
    end_flops: int
    weight_bytes: int
    stored_bytes: int

    @property
    def rolled(self) -> bool:
        """Whether all iterations share one body."""
        return len(self.segments) == 1 and self.segments[0].count == self.iterations

    def __str__(self) -> str:
        lines = [
            *self.heading(),
            *self._streams(),
            f"  weights  {self.weight_bytes} bytes in the file's layers, {self.stored_bytes} stored once",
            "",
            f"  {'part':<22}{'nodes':>7}{'own constants':>15}{'flops':>12}{'bytes':>12}",
            f"  {'begin':<22}{'':>7}{'':>15}{self.begin_flops:>12}{'':>12}",
        ]
        for s in self.segments:
            name = part_text(s.first, s.count)
            lines.append(f"  {name:<22}{s.nodes:>7}{s.per_iteration_constants:>15}{s.flops:>12}{s.bytes:>12}")
        lines += [f"  {'end':<22}{'':>7}{'':>15}{self.end_flops:>12}{'':>12}", ""]
        lines += self.verdict(self.not_rolled, self.hoisted, self.early_stop)
        return "\n".join(printable(line, 1000) for line in lines)

    def _streams(self) -> list[str]:
        """One line, or none: names of ports may be long, and most models have no streams."""
        if not self.streams["inputs"]:
            return []
        added = f"; each adds a slice of {', '.join(self.streams['outputs'])}" if self.streams["outputs"] else ""
        return [f"  streams  each iteration reads a slice of {', '.join(self.streams['inputs'])}{added}"]


def describe(
    path: Path | str, batch: int | str | None = None, dimensions: Mapping[str, int] | None = None
) -> Inspection:
    """Reads and rolls a model, as `unfoldc inspect` shows it. Raises ModelError as `compile_onnx` does."""
    raw = import_onnx(path, batch=batch, dimensions=dimensions)
    model, program = load_program(path, batch, dimensions)
    total = cost(program)
    segments = tuple(
        SegmentReport(
            s.first, s.count, len(s.nodes), len(s.stacked), total.iterate_flops[s.first], total.iterate_bytes[s.first]
        )
        for s in program.segments
    )
    before = {n.outputs[0] for n in raw.program.begin}
    loops = lower(program)
    return Inspection(
        path=Path(path).name,
        iterations=program.iterations,
        boundaries=model.boundaries,
        inputs=tuple(map(port_text, model.inputs)),
        outputs=tuple(map(port_text, model.outputs)),
        states=tuple(f"{s.name} {list(program.types[s.name].shape)}" for s in program.states),
        streams=port_streams(loops, model.inputs, model.outputs),
        segments=segments,
        not_rolled=program.notes,
        hoisted=tuple(str(n.origin) for n in program.begin if n.outputs[0] not in before and _computes(n.operator)),
        early_stop=program.early_stop,
        begin_flops=total.begin_flops,
        end_flops=total.end_flops,
        weight_bytes=_weight_bytes(raw.program),
        stored_bytes=sum(v.nbytes for v in loops.constants.values()),
    )


def _computes(operator: str) -> bool:
    return OPERATORS[operator].kind != "view"


def _weight_bytes(program: Program) -> int:
    """Bytes of all constants if each iteration had its own copy of what it reads."""
    total = 0
    for nodes in (program.begin, *(s.nodes for s in program.segments), program.end):
        names = {i for n in nodes for i in n.inputs if i in program.constants}
        total += sum(np.asarray(program.constants[name]).nbytes for name in names)
    return total


def operator_names() -> list[str]:
    """ONNX operators that the compiler knows."""
    return sorted(known_operators())
