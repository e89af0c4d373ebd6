"""What `unfoldc inspect` shows of a model that is split: its parts and what passes between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unfoldc.errors import printable
from unfoldc.kernels.inspection_text import ModelReport, part_text, port_text
from unfoldc.kernels.split_onnx.artifact import Tools, memory_plan, ports, split_file


@dataclass(frozen=True)
class PartReport:
    """Iterations `first .. first + count - 1` run one ONNX model of `nodes` nodes."""

    first: int
    count: int
    nodes: int
    per_iteration_constants: int


@dataclass(frozen=True)
class SplitInspection(ModelReport):
    """Result of `describe_split`. The compiler knows nothing of the operators, so there is no count of operations."""

    begin_nodes: int
    segments: tuple[PartReport, ...]
    end_nodes: int
    not_rolled: tuple[str, ...]
    early_stop: str
    constant_bytes: int

    @property
    def rolled(self) -> bool:
        """Whether all iterations share one model."""
        return len(self.segments) == 1 and self.segments[0].count == self.iterations

    def __str__(self) -> str:
        lines = [
            *self.heading(),
            f"  weights  {self.constant_bytes} bytes",
            "",
            f"  {'ONNX model':<22}{'nodes':>7}{'own constants':>15}",
            f"  {'begin':<22}{self.begin_nodes:>7}",
        ]
        for s in self.segments:
            lines.append(f"  {part_text(s.first, s.count):<22}{s.nodes:>7}{s.per_iteration_constants:>15}")
        lines += [f"  {'end':<22}{self.end_nodes:>7}", "", *self.verdict(self.not_rolled, (), self.early_stop)]
        return "\n".join(printable(line, 1000) for line in lines)


def describe_split(
    path: Path | str,
    batch: int | str | None = None,
    dimensions: Mapping[str, int] | None = None,
    tools: Tools | None = None,
) -> SplitInspection:
    """Reads and splits a model. Raises ModelError as `compile_split` does."""
    model, made, objections = split_file(path, batch, dimensions, tools or Tools())
    inputs, outputs = ports(model, made, str(path))
    counts = {part: len(proto.graph.node) for part, proto in made.models.items()}
    return SplitInspection(
        path=Path(path).name,
        iterations=made.program.iterations,
        boundaries=model.boundaries,
        inputs=tuple(map(port_text, inputs)),
        outputs=tuple(map(port_text, outputs)),
        states=tuple(f"{s} {made.wiring['types'][s]['dims'] or '?'}" for s in made.wiring["states"]),
        begin_nodes=counts.get("begin", 0),
        segments=tuple(
            PartReport(f["first"], f["count"], counts[f["part"]], len(f["stacked"])) for f in made.wiring["iterate"]
        ),
        end_nodes=counts["end"],
        not_rolled=(*objections, *made.program.notes),
        early_stop=made.program.early_stop,
        constant_bytes=memory_plan(made).constant_bytes,
    )
