"""Runs `begin`, `iterate`, ..., `end` as ONNX Runtime sessions on bound buffers.

`split_workspaces` says how values pass from one part to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unfoldc.errors import ToolError
from unfoldc.runtime.onnxruntime_sessions import device_of, first_line, load_onnxruntime, new_session
from unfoldc.runtime.split_workspaces import BoundWorkspace, OpenWorkspace, Part, Workspace

_MANY_SHAPES = 16


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


def _array(value: Any) -> np.ndarray:
    return np.array(value, order="C")
