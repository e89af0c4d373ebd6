"""The buffers between the parts of a split model, bound to them.

A state has two buffers: an iteration reads one and writes the other, and nothing is copied. What each iteration reads
and writes is bound once per shape of the inputs. Where a shape is not known before the model runs, ONNX Runtime makes
the arrays and they are handed on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unfoldc.errors import ToolError

if TYPE_CHECKING:
    from unfoldc.runtime.split_runner import SplitRunner

Step = Callable[[], None]


@dataclass(frozen=True)
class Part:
    """One model: its session, and the names outside that its inputs and outputs have."""

    session: Any
    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, str], ...]


class Workspace:
    """The buffers of one call at a time."""

    def __init__(self, runner: SplitRunner) -> None:
        self.runner = runner

    def run(
        self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], iterations: int, ticks: np.ndarray | None
    ) -> None:
        """One solve."""
        raise NotImplementedError


class BoundWorkspace(Workspace):
    """Everything is allocated and bound when it is made."""

    def __init__(self, runner: SplitRunner, inputs: Sequence[np.ndarray], batch: int) -> None:
        super().__init__(runner)
        types = runner.wiring["types"]

        def shape_of(name: str) -> tuple[int, ...]:
            return runner.shape(name, batch) or ()

        def new(name: str) -> Any:
            return runner.empty_value(list(shape_of(name)), np.dtype(types[name]["dtype"]))

        self.inputs = [runner.new_value(np.array(a)) for a in inputs]
        self.fixed = dict(zip(runner.wiring["inputs"], self.inputs, strict=True)) | runner.initial
        self.begin: Step = _nothing
        if runner.begin:
            self.fixed |= {target: new(target) for target, _ in runner.begin.outputs}
            self.begin = self._bind(runner.begin, self.fixed, self.fixed)
        self.buffers = {state: (new(state), new(state)) for state in runner.wiring["states"]}
        self.states = {s: self.fixed[i] for s, i in runner.wiring["states"].items() if i in self.fixed}
        # content[k] holds, by state, what is read after k iterations; slots that nobody has filled yet hold zeros.
        histories = runner.histories
        self.zeros = {h: runner.new_value(np.zeros(shape_of(h), types[h]["dtype"])) for h in histories}
        self.empty = {slot: self.zeros[h] for slot, (h, _) in runner.wiring["slots"].items()}
        self.content, self.iterate = [self.states | self.empty], list[Step]()
        for k, (part, own) in enumerate(zip(runner.iterate, runner.constants, strict=True)):
            now = self.content[-1]
            targets = {s: new(s) if s in histories else self._other(s, now.get(s)) for s, _ in part.outputs}
            self.iterate.append(self._bind(part, self.fixed | own | now, targets))
            self.content.append(now | targets | runner.filled(k, targets))
        self.results = [np.empty(shape_of(name), types[name]["dtype"]) for name in runner.results]
        self.result_values = dict(zip(runner.results, map(runner.host_value, self.results), strict=True))
        self.ends: dict[int, Step] = {}

    def _other(self, state: str, now: Any) -> Any:
        first, second = self.buffers[state]
        return second if now is first else first

    def _bind(self, part: Part, sources: Mapping[str, Any], targets: Mapping[str, Any]) -> Step:
        binding = part.session.io_binding()
        for name in part.inputs:
            binding.bind_ortvalue_input(name, sources[name])
        for target, output in part.outputs:
            binding.bind_ortvalue_output(output, targets[target])
        if self.runner.device == "cpu":
            return lambda: part.session.run_with_iobinding(binding)

        def run() -> None:
            part.session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return run

    def run(
        self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], iterations: int, ticks: np.ndarray | None
    ) -> None:
        """One solve."""
        if iterations not in self.ends:
            sources = self.fixed | self.content[iterations]
            self.ends[iterations] = self._bind(self.runner.end, sources, self.result_values)
        stamps = _Stamps(ticks)
        for value, array in zip(self.inputs, inputs, strict=True):
            value.update_inplace(array)
        self.begin()
        stamps.take()
        for step in self.iterate[:iterations]:
            step()
            stamps.take()
        self.ends[iterations]()
        for output, result in zip(outputs, self.results, strict=True):
            output[...] = result
        stamps.finish()


class OpenWorkspace(Workspace):
    """ONNX Runtime makes the arrays; their shapes are known once it has."""

    def run(
        self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], iterations: int, ticks: np.ndarray | None
    ) -> None:
        """One solve."""
        runner = self.runner
        stamps = _Stamps(ticks)
        values = dict(zip(runner.wiring["inputs"], map(runner.new_value, inputs), strict=True)) | runner.initial
        if runner.begin:
            values |= self._part(runner.begin, values)
        values |= {s: values[i] for s, i in runner.wiring["states"].items() if i in values}
        stamps.take()
        for k in range(iterations):
            made = self._part(runner.iterate[k], values | runner.constants[k])
            values |= made | runner.filled(k, made)
            stamps.take()
        for slot, (history, _) in runner.wiring["slots"].items():
            if slot not in values:  # nobody has filled it
                like = values[history]
                values[slot] = runner.new_value(np.zeros(like.shape(), runner.wiring["types"][history]["dtype"]))
        results = self._part(runner.end, values)
        for output, name in zip(outputs, runner.results, strict=True):
            array = results[name].numpy()
            if array.shape != output.shape:
                raise ToolError(
                    "backend onnxruntime",
                    f"an output of shape {array.shape}",
                    f"shape {output.shape}, which the model states",
                    "Export the model with the output's shape.",
                )
            output[...] = array
        stamps.finish()

    def _part(self, part: Part, values: Mapping[str, Any]) -> dict[str, Any]:
        binding = part.session.io_binding()
        for name in part.inputs:
            binding.bind_ortvalue_input(name, values[name])
        for _, output in part.outputs:
            binding.bind_output(output, self.runner.device)
        part.session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return {target: value for (target, _), value in zip(part.outputs, binding.get_outputs(), strict=True)}


class _Stamps:
    """Readings of the clock: before begin, then behind each part. Without `ticks` none are taken."""

    def __init__(self, ticks: np.ndarray | None) -> None:
        self.ticks = ticks
        self.taken: list[int] = []
        self.take: Step = _nothing if ticks is None else lambda: self.taken.append(time.perf_counter_ns())
        self.take()

    def finish(self) -> None:
        """Adds the nanoseconds between them to the ticks: begin, the iterations that ran, and end as the last."""
        self.take()
        if self.ticks is not None:
            spent = np.diff(np.array(self.taken, np.uint64))
            self.ticks[: len(spent) - 1] += spent[:-1]
            self.ticks[-1] += spent[-1]


def _nothing() -> None:
    return None
