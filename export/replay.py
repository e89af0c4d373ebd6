"""PyTorch's own iterates, to compare the exported ones with: the traced program, given earlier states for the last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from unfoldc.export.states import State


class _Recorder(fx.Interpreter):
    """Runs the program and keeps every value by its name."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.values: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """One operation, its result kept."""
        self.values[n.name] = super().run_node(n)
        return self.values[n.name]


class _Continued(fx.Interpreter):
    """Runs only what depends on the values in `given`, with those in place of the recorded ones."""

    def __init__(self, module: fx.GraphModule, recorded: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.recorded, self.given = recorded, given
        self.changed: set[str] = set()

    def run_node(self, n: fx.Node) -> Any:
        """One operation, or its recorded result where nothing before it changed."""
        if n.name in self.given:
            self.changed.add(n.name)
            return self.given[n.name]
        if n.op == "output" or self.changed.intersection(a.name for a in n.all_input_nodes):
            self.changed.add(n.name)
            return super().run_node(n)
        return self.recorded[n.name]


def make_iterates(
    program: torch.export.ExportedProgram,
    states: Sequence[State],
    outputs: Sequence[str],
    iterates: Mapping[str, Sequence[str]],
) -> Callable[[Sequence[Tensor]], Mapping[str, Tensor]] | None:
    """A function from inputs to the iterates by the names of their outputs; None where torch's program lacks a state.

    Args:
        program: the program from which the model was translated; its values have the names that the listing has.
        states: the states by these names.
        outputs: names of the solver's outputs in order.
        iterates: for each output the names of its iterates.
    """
    module = program.module()
    known = {node.name for node in module.graph.nodes}
    usable = [s for s in states if all(s.values) and not s.guessed]
    if not usable or not all(v in known for s in usable for v in s.values):
        return None

    def run(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        recorder = _Recorder(module)
        recorder.run(*tensors)
        found: dict[str, Tensor] = {}
        for k in range(len(usable[0].values)):
            given = {s.values[-1]: recorder.values[s.values[k]] for s in usable}
            answer = fx.node.map_aggregate(_Continued(module, recorder.values, given).run(*tensors), lambda t: t)
            flat = torch.utils._pytree.tree_leaves(answer)
            named = dict(zip(outputs, flat, strict=True))
            found.update((names[k], named[name]) for name, names in iterates.items())
        return found

    return run
