"""Computes once what need not be computed again: constants when the model is split, invariants in `begin`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from unfoldc.kernels.program import Node, Program, Segment, TensorType
from unfoldc.kernels.split_onnx.models import print_model
from unfoldc.kernels.split_onnx.value_types import Evaluate, ValueType

_LARGEST = 2**24


def hoist(program: Program, random: frozenset[str]) -> Program:
    """Moves into `begin` what every iteration of a rolled segment would compute again."""
    states = {s.name for s in program.states}
    begin = list(program.begin)
    segments = []
    for segment in program.segments:
        changing = states | segment.stacked | random
        kept = []
        for node in segment.nodes:
            if segment.count > 1 and not any(name in changing for name in (*node.inputs, *node.outputs)):
                begin.append(node)
            else:
                changing = changing | set(node.outputs)
                kept.append(node)
        segments.append(replace(segment, nodes=tuple(kept)))
    return replace(program, begin=tuple(begin), segments=tuple(segments))


@dataclass(frozen=True)
class Folder:
    """Evaluates what depends on constants alone; nodes that cannot be evaluated stay as they are."""

    frame: onnx.ModelProto
    types: Mapping[str, ValueType]
    random: frozenset[str]
    evaluate: Evaluate

    def fold(self, program: Program) -> Program:
        """Begin and end, and bodies slice by slice where constants are stacked."""
        constants, types = dict(program.constants), dict(program.types)
        begin = self.part(program.begin, constants, types, set(), 1, program)
        segments: list[Segment] = []
        for segment in program.segments:
            stacked = set(segment.stacked)
            nodes = segment.nodes
            if segment.count > 1:  # a body of its own is folded when its model is loaded
                nodes = self.part(nodes, constants, types, stacked, segment.count, program)
            segments.append(replace(segment, nodes=nodes, stacked=frozenset(stacked)))
        return replace(program, constants=constants, types=types, begin=begin, segments=tuple(segments))

    def part(
        self,
        nodes: Sequence[Node],
        constants: dict[str, np.ndarray],
        types: dict[str, TensorType],
        stacked: set[str],
        count: int,
        program: Program,
    ) -> tuple[Node, ...]:
        """What is left of the nodes of one part."""
        known = set(constants)
        folded, size = [], 0
        for node in nodes:
            elements = sum(self.size(o) for o in node.outputs)
            if self.foldable(node, known) and size + elements <= _LARGEST:
                size += elements
                folded.append(node)
                known.update(node.outputs)
        kept = tuple(n for n in nodes if n not in folded)
        read = {i for n in (*program.nodes(), *kept) if n not in folded for i in n.inputs} | set(program.outputs)
        read |= {v for s in program.segments for v in s.results} | {s.initial for s in program.states}
        wanted = [o for n in folded for o in n.outputs if o in read]
        if not wanted:
            return tuple(nodes) if not folded else kept
        fed = sorted({i for n in folded for i in n.inputs} & stacked)
        try:
            results = self.run(folded, fed, wanted, constants, count)
        except Exception:  # whatever an evaluator raises, the model itself will do the work when it runs
            return tuple(nodes)
        varying = self.depend_on(folded, set(fed))
        for name, values in zip(wanted, results, strict=True):
            constants[name] = np.stack(values) if name in varying else values[0]
            types[name] = TensorType(values[0].dtype.name, values[0].shape)
            if name in varying:
                stacked.add(name)
        return kept

    def size(self, name: str) -> int:
        """Elements of a value; more than may be folded where nobody knows."""
        found = self.types.get(name)
        shape = found.for_batch(None, 1) if found is not None else None
        return _LARGEST + 1 if shape is None else int(np.prod(shape, dtype=np.int64))

    def foldable(self, node: Node, known: set[str]) -> bool:
        """Whether the node depends on constants alone and makes arrays of known size."""
        return (
            all(i in known or not i for i in node.inputs)
            and not any(o in self.random for o in node.outputs)
            and all(o in self.types and self.types[o].dtype for o in node.outputs)
        )

    def run(
        self,
        nodes: Sequence[Node],
        fed: Sequence[str],
        wanted: Sequence[str],
        constants: Mapping[str, np.ndarray],
        count: int,
    ) -> list[list[np.ndarray]]:
        """The values that are wanted, each once per slice, or once in all where nothing is stacked."""
        inputs = {name: ValueType(constants[name].dtype.name, constants[name].shape[1:]) for name in fed}
        outputs = {name: self.types[name] for name in wanted}
        model = print_model("constants", self.frame, nodes, inputs, outputs, constants)
        slices = range(count) if fed else range(1)
        runs = [self.evaluate(model, {name: constants[name][k] for name in fed}) for k in slices]
        return [[np.array(run[position]) for run in runs] for position in range(len(wanted))]

    @staticmethod
    def depend_on(nodes: Sequence[Node], names: set[str]) -> set[str]:
        """The values that depend on these."""
        for node in nodes:
            if any(i in names for i in node.inputs):
                names = names | set(node.outputs)
        return names
