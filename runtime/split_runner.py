"""Runs `begin`, `iterate`, ..., `end` as ONNX Runtime sessions on bound buffers.

A state has two buffers: an iteration reads one and writes the other, and nothing is copied. What each iteration reads
and writes is bound once per shape of the inputs. Where a shape is not known before the model runs, ONNX Runtime makes
the arrays and they are handed on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unfoldc.errors import ToolError
from unfoldc.runtime.onnxruntime_sessions import device_of, first_line, load_onnxruntime, new_session

Step = Callable[[], None]
_MANY_SHAPES = 16


@dataclass(frozen=True)
class Part:
    """One model: its session, and the names outside that its inputs and outputs have."""

    session: Any
    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, str], ...]


class SplitRunner:
    """A split model, ready to run. Several threads may call at once: each takes buffers from a pool.

    `wiring` and `constants` are those of `kernels.split_onnx.split.Split`, `models` holds its models' bytes by part.
    """

    def __init__(
        self,
        wiring: Mapping[str, Any],
        models: Mapping[str, bytes],
        constants: Mapping[str, np.ndarray],
        providers: Sequence[str],
        threads: int = 1,
        *,
        optimise: bool = True,
    ) -> None:
        runtime = load_onnxruntime()
        self.wiring, self.device = wiring, device_of(providers)
        self.new_value: Callable[[np.ndarray], Any] = lambda a: runtime.OrtValue.ortvalue_from_numpy(a, self.device, 0)
        self.empty_value: Callable[..., Any] = lambda shape, dtype: runtime.OrtValue.ortvalue_from_shape_and_type(
            shape, dtype, self.device, 0
        )
        self.host_value: Callable[[np.ndarray], Any] = runtime.OrtValue.ortvalue_from_numpy

        def part(facts: Mapping[str, Any]) -> Part:
            session = new_session(models[facts["part"]], providers, threads, optimise=optimise)
            return Part(session, tuple(facts["inputs"]), tuple((t, o) for t, o in facts["outputs"]))

        self.begin = part(wiring["begin"]) if wiring["begin"] else None
        self.iterate: list[Part] = []
        self.constants: list[dict[str, Any]] = []  # of each iteration
        keys = wiring["constants"]
        for facts in wiring["iterate"]:
            body = part(facts)
            for k in range(facts["count"]):
                own = {n: self.new_value(_array(constants[keys[n]][k])) for n in facts["stacked"]}
                self.iterate.append(body)
                self.constants.append(own)
        self.end = part(wiring["end"])
        self.initial = {
            name: self.new_value(_array(constants[keys[name]])) for name in wiring["states"].values() if name in keys
        }
        self.results = [target for target, _ in wiring["end"]["outputs"]]
        self.histories = {h for facts in wiring["iterate"] for h in facts["kept"]}
        self.open = False
        self._pools: dict[Any, list[Workspace]] = {}

    def run(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        batch: int,
        iterations: int,
        ticks: np.ndarray | None = None,
    ) -> None:
        """Solve with that many iterations; add nanoseconds of begin, each iteration and end to `ticks`, if given."""
        key = (batch, *(a.shape for a in inputs))
        pool = self._pools.get(key)
        if pool is None:
            if len(self._pools) >= _MANY_SHAPES:
                self._pools.clear()
            pool = self._pools.setdefault(key, [])
        try:
            workspace = pool.pop()
        except IndexError:
            workspace = self._new_workspace(inputs, batch)
        try:
            try:
                workspace.run(inputs, outputs, iterations, ticks)
            except ToolError:
                raise
            except Exception:
                if isinstance(workspace, OpenWorkspace):
                    raise
                # A shape may depend on the data after all.
                workspace = OpenWorkspace(self)
                workspace.run(inputs, outputs, iterations, None)
                self.open, self._pools = True, {}
        except ToolError:
            raise
        except Exception as error:  # what a kernel finds wrong with the data
            raise ToolError(
                "backend onnxruntime",
                f"ONNX Runtime stopped: {first_line(error)}",
                "inputs that the model's operators take",
                "Check the inputs; `unfoldc inspect` shows the model.",
            ) from None
        pool.append(workspace)

    def shape(self, name: str, batch: int) -> tuple[int, ...] | None:
        """The shape of a value for that batch; None where only a run can tell."""
        dims = self.wiring["types"][name]["dims"]
        if dims is None:
            return None
        shape = [batch if d == self.wiring["batch"] and d is not None else d for d in dims]
        return tuple(shape) if all(isinstance(d, int) for d in shape) else None

    def filled(self, k: int, made: Mapping[str, Any]) -> dict[str, Any]:
        """The slots that iteration k fills."""
        return {slot: made[h] for slot, (h, place) in self.wiring["slots"].items() if place == k}

    def _new_workspace(self, inputs: Sequence[np.ndarray], batch: int) -> Workspace:
        if self.open or any(self.shape(name, batch) is None for name in self.wiring["types"]):
            return OpenWorkspace(self)
        return BoundWorkspace(self, inputs, batch)


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


def _array(value: Any) -> np.ndarray:
    return np.array(value, order="C")


def _nothing() -> None:
    return None
