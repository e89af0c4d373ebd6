"""A rolled program of opaque nodes -> three ONNX models, the constants that run over the iterations, and the wiring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from unfoldc.kernels.passes.remove_dead import remove_dead
from unfoldc.kernels.passes.roll_iterations import roll_iterations
from unfoldc.kernels.passes.share_weights import share_weights
from unfoldc.kernels.passes.thread_states import Run, thread_states
from unfoldc.kernels.program import Node, Origin, Program, unused_name
from unfoldc.kernels.split_onnx.hand_out import hand_out
from unfoldc.kernels.split_onnx.models import print_model
from unfoldc.kernels.split_onnx.opaque_nodes import copy_of
from unfoldc.kernels.split_onnx.read import OpaqueModel
from unfoldc.kernels.split_onnx.tidy import Folder, hoist
from unfoldc.kernels.split_onnx.value_types import Evaluate, ValueType, merged


@dataclass(frozen=True)
class Split:
    """`models` by part: "begin", "iterate" (with the number of its first iteration where there are several), "end".

    `wiring` says what each model reads and makes (plain JSON); `constants` are the arrays that it names.
    """

    program: Program
    models: Mapping[str, onnx.ModelProto]
    wiring: Mapping[str, Any]
    constants: Mapping[str, np.ndarray]


def rolled(model: OpaqueModel, evaluate: Evaluate) -> Program:
    """The program with alike iterations rolled into one body."""
    folder = Folder(model.frame, model.types, model.random, evaluate)
    program = roll_iterations(share_weights(folder.fold(share_weights(model.program))))
    return _doubted(hand_out(remove_dead(folder.fold(hoist(program, model.random)))))


def _doubted(program: Program) -> Program:
    """Refuses an early stop where nobody named the iterations and the end may hold a part of the last one."""
    if not program.guessed or program.early_stop:
        return program
    inside = {n.operator for s in program.segments for n in s.nodes}
    reached = {s.name for s in program.states}
    for node in program.end:
        if any(i in reached for i in node.inputs):
            reached.update(node.outputs)
            if node.operator in inside:
                reason = f"nobody named the iterations, and {node.origin} at the end may belong to the last of them"
                return replace(program, early_stop=reason)
    return program


def unrolled(model: OpaqueModel, evaluate: Evaluate) -> Program:
    """The program with a body of its own for each iteration."""
    program = share_weights(model.program)
    return remove_dead(thread_states(program, [Run.alone(s) for s in program.segments]))


def whole(model: OpaqueModel, evaluate: Evaluate) -> Program:
    """The program as one iteration."""
    program = model.program.in_one()
    return remove_dead(thread_states(program, [Run.alone(s) for s in program.segments]))


# From the best to what always works.
WAYS: tuple[Callable[[OpaqueModel, Evaluate], Program], ...] = (rolled, unrolled, whole)


def split(model: OpaqueModel, program: Program) -> Split:
    """Prints the parts. Raises ValueError where a value that is no array would pass from one to another."""
    return _Splitter(model, program).run()


class _Splitter:
    def __init__(self, model: OpaqueModel, program: Program) -> None:
        self.model, self.program = model, program
        self.types = dict(model.types)
        stacked = {name for s in program.segments for name in s.stacked}
        for name, value in program.constants.items():
            self.types[name] = ValueType(value.dtype.name, value.shape[1:] if name in stacked else value.shape)
        self.taken = {*program.types, *self.types}
        self.made_in_begin = {o for n in program.begin for o in n.outputs}
        histories = {h for s in program.segments for h in s.kept}
        self.states = {s.name: s.initial for s in program.states if s.name not in histories}
        self.slots, self.end = self._slots()
        self.buffer_types: dict[str, ValueType] = {}
        self._state_types()

    def _slots(self) -> tuple[dict[str, tuple[str, int]], tuple[Node, ...]]:
        """What the end reads of each iteration, as (history, iteration), and the end without the nodes that say so."""
        program = self.program
        first = {h: s.first for s in program.segments for h in s.kept}
        readers = [n for n in program.end if n.inputs and n.inputs[0] in first and "proto" not in n.attributes]
        slots = {n.outputs[0]: (n.inputs[0], first[n.inputs[0]] + int(program.constants[n.inputs[1]])) for n in readers}
        return slots, tuple(n for n in program.end if n not in readers)

    def _state_types(self) -> None:
        """A state's type is what all contents have in common; its buffers hold what iterations put there."""
        contents: dict[str, list[str]] = {name: [] for name in self.states}
        for segment in self.program.segments:
            for state, value in segment.carried.items():
                contents[state].append(value)
        put = {state: tuple(values) for state, values in contents.items()}
        zeros = {i for i in self.states.values() if i in self.program.constants and i not in self.model.types}
        for state, initial in self.states.items():
            if initial not in zeros:  # zeros stand where a segment sets the state before it is read
                contents[state].append(initial)
        # States may hold what other states held: lengths are known once all that they lead to are.
        for _ in range(len(self.states) + 1):
            for state, values in contents.items():
                known = [self.types[v] for v in values if v in self.types]
                if known:
                    self.types[state] = merged(known)
        for state, initial in self.states.items():
            self.types.setdefault(state, self.types.get(initial, ValueType("", None)))
            known = [self.types[v] for v in put[state] if v in self.types]
            self.buffer_types[state] = merged(known) if known else self.types[state]
        for segment in self.program.segments:
            self.types.update({h: self.types.get(v, ValueType("", None)) for h, v in segment.kept.items()})
        self.types.update({slot: self.types[h] for slot, (h, _) in self.slots.items()})

    def run(self) -> Split:
        program = self.program
        models: dict[str, onnx.ModelProto] = {}
        needed = self._from_begin()
        wiring: dict[str, Any] = {
            "format": 1,
            "batch": self.model.batch_name,
            "inputs": list(program.inputs),
            "states": self.states,
            "slots": {slot: list(place) for slot, place in self.slots.items()},
            "begin": None,
        }
        if program.begin:
            models["begin"], wiring["begin"] = self._model("begin", program.begin, {n: n for n in needed}, frozenset())
        wiring["iterate"] = []
        for segment in program.segments:
            part = "iterate" if len(program.segments) == 1 else f"iterate_{segment.first}"
            results = {**segment.carried, **segment.kept}
            models[part], facts = self._model(part, segment.nodes, results, segment.stacked)
            own = {"first": segment.first, "count": segment.count, "kept": sorted(segment.kept)}
            wiring["iterate"].append({**facts, **own})
        results = {unused_name(f"result {i}", self.taken): o for i, o in enumerate(program.outputs)}
        for name, original in zip(results, self.model.program.outputs, strict=True):
            self.buffer_types[name] = self.types[name] = self.model.types[original]
        models["end"], wiring["end"] = self._model("end", self.end, results, frozenset())
        constants = self._constants(wiring)
        wiring["types"] = {name: self._described(name) for name in self._crossing(wiring)}
        return Split(program, models, wiring, constants)

    def _from_begin(self) -> list[str]:
        """The values of `begin` that somebody else reads."""
        program = self.program
        read = {i for s in program.segments for n in s.nodes for i in n.inputs} | {
            i for n in program.end for i in n.inputs
        }
        read |= {v for s in program.segments for v in s.results}
        read |= {*program.outputs, *self.states.values()}
        return [o for n in program.begin for o in n.outputs if o in read]

    def _model(
        self, part: str, nodes: Sequence[Node], results: Mapping[str, str], stacked: frozenset[str]
    ) -> tuple[onnx.ModelProto, dict[str, Any]]:
        """The model of one part, and what it reads and makes. `results`: the value that a name outside gets."""
        nodes, results, outputs = list(nodes), dict(results), []
        made = {o for n in nodes for o in n.outputs}
        for target, value in results.items():
            output = value
            if value not in made or value in outputs:
                output = unused_name(f"{value} (copy)", self.taken)
                self.taken.add(output)
                self.types[output] = self.types.get(value, ValueType("", None))
                nodes.append(copy_of(value, output, Origin(output, "Identity")))
            outputs.append(output)
            self.types.setdefault(target, self.types[output])
        made = {o for n in nodes for o in n.outputs}
        constants = {n: v for n, v in self.program.constants.items() if n not in stacked}
        read = dict.fromkeys(i for n in nodes for i in n.inputs if i and i not in made and i not in constants)
        for name in (*read, *outputs):
            if not self.types[name].dtype:
                raise ValueError(f"{name!r}, which passes from one part to another, is no array of numbers")
        model = print_model(
            part,
            self.model.frame,
            nodes,
            {name: self.types[name] for name in read},
            {name: self.types[name] for name in outputs},
            constants,
        )
        facts = {
            "part": part,
            "inputs": list(read),
            "outputs": [[target, output] for target, output in zip(results, outputs, strict=True)],
            "stacked": sorted(stacked & set(read)),
        }
        return model, facts

    def _constants(self, wiring: dict[str, Any]) -> dict[str, np.ndarray]:
        """The arrays outside of the models, under names of their own; `wiring` says what each is."""
        wanted = [n for facts in wiring["iterate"] for n in facts["stacked"]]
        wanted += [i for i in self.states.values() if i in self.program.constants]
        names = {name: f"constant_{i}" for i, name in enumerate(dict.fromkeys(wanted))}
        wiring["constants"] = names
        return {key: self.program.constants[name] for name, key in names.items()}

    def _crossing(self, wiring: Mapping[str, Any]) -> list[str]:
        parts = [p for p in (wiring["begin"], *wiring["iterate"], wiring["end"]) if p]
        return sorted({*self.states, *(target for p in parts for target, _ in p["outputs"])})

    def _described(self, name: str) -> dict[str, Any]:
        found = self.buffer_types.get(name, self.types[name])
        return {"dtype": found.dtype, "dims": None if found.expected is None else list(found.expected)}
