"""Evaluates a program with the NumPy forms of the operator table, in its own types or all in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from unfoldc.errors import InputError
from unfoldc.kernels.operators import OPERATORS
from unfoldc.kernels.program import Node, Program


def evaluate(
    program: Program, inputs: Mapping[str, np.ndarray], dtype: str | None = "float64", iterations: int | None = None
) -> list[np.ndarray]:
    """Outputs for one problem (arrays with a batch axis of 1 where the model has one).

    dtype replaces the type of every floating-point value; None keeps the types of the program. `iterations` stops early
    and needs a rolled program. Raises InputError for a number of iterations that the program does not have.
    """
    return _Run(program, inputs, dtype).finish(program.iterations if iterations is None else iterations)


def iterate_outputs(
    program: Program, inputs: Mapping[str, np.ndarray], dtype: str | None = "float64"
) -> list[list[np.ndarray]]:
    """Outputs after each of the K iterations."""
    run = _Run(program, inputs, dtype)
    return [run.finish(k + 1) for k in range(program.iterations)]


class _Run:
    def __init__(self, program: Program, inputs: Mapping[str, np.ndarray], dtype: str | None) -> None:
        self.program, self.dtype = program, dtype
        self.constants = {name: self.cast(value) for name, value in program.constants.items()}
        self.base: dict[str, np.ndarray] = dict(self.constants)
        for name in program.inputs:
            self.base[name] = self.cast(np.asarray(inputs[name]).reshape(program.types[name].shape))
        self.run(program.begin, self.base)
        self.base.update({s.name: self.base[s.initial] for s in program.states})

    def cast(self, value: np.ndarray) -> np.ndarray:
        return value.astype(self.dtype) if self.dtype and value.dtype.kind == "f" else value

    def finish(self, iterations: int) -> list[np.ndarray]:
        program, values = self.program, dict(self.base)
        if not 1 <= iterations <= program.iterations or (iterations < program.iterations and not program.rolled):
            raise InputError(
                "iterations",
                f"{iterations} of {program.iterations}",
                f"1 to {program.iterations}",
                "Choose a number in that range.",
            )
        left = iterations
        for segment in program.segments:
            for k in range(min(segment.count, left)):
                local = {**values, **{name: self.constants[name][k] for name in segment.stacked}}
                self.run(segment.nodes, local)
                if program.rolled:
                    for history, value in segment.kept.items():
                        values[history] = np.array(values[history])
                        values[history][k] = local[value]
                    values.update({state: local[value] for state, value in segment.carried.items()})
                else:
                    values.update({o: local[o] for n in segment.nodes for o in n.outputs})
            left -= min(segment.count, left)
        self.run(program.end, values)
        return [values[name] for name in program.outputs]

    def run(self, nodes: Sequence[Node], values: dict[str, np.ndarray]) -> None:
        with np.errstate(all="ignore"):
            for node in nodes:
                attributes = dict(node.attributes)
                if self.dtype and node.operator == "Cast" and str(attributes["to"]).startswith("float"):
                    attributes["to"] = self.dtype
                results = OPERATORS[node.operator].evaluate(attributes, [values[i] if i else None for i in node.inputs])
                values.update(zip(node.outputs, results, strict=False))
