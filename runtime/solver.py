"""A compiled solver that is called like a function."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from unfoldc.errors import InputError
from unfoldc.kernels.artifact import Artifact, Port
from unfoldc.runtime.bound import BoundCall, bind_call
from unfoldc.runtime.ports import as_typed, bind, common_batch, signature
from unfoldc.runtime.result import RunResult, status_of

if TYPE_CHECKING:
    from unfoldc.runtime.artifact_folder import Build
    from unfoldc.runtime.engine import Engine
    from unfoldc.runtime.profile import Profile
    from unfoldc.runtime.project import WrittenProject

_MANY_SHAPES = 256
Plan = tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]


class Solver:
    """`x = solver(y)`: NumPy in, fresh NumPy arrays out, a tuple of them where there are several outputs.

    A batched input has shape `(batch, ...)` and the batch is read from it. Arrays of exactly the right type that are
    contiguous are passed on as they are; others are converted where the kind of number allows it (float64 or int64 to
    float32, not complex). Several threads may call at once.

    `iterations` is K; `inputs` and `outputs` describe the arrays; `batch` is the batch fixed at compile time, or None.
    `threads`: a batch is split over so many where its first calls show that it pays; the answers keep every bit.
    `on` is the address of the device that it runs on (None: here), which `close` or the end of a `with` gives back.
    `notes` says what a user should know of how the solver was made, such as a back end that was taken for another.
    Raises InputError for a wrong shape or type and for missing or unknown inputs.
    """

    def __init__(self, build: Build, engine: Engine, *, backend_reason: str = "", threads: int = 1) -> None:
        artifact = build.artifact
        self._build, self._engine = build, engine
        self.artifact: Artifact = artifact
        self.backend_reason = backend_reason or f"backend {artifact.backend} was asked for"
        self.iterations: int = artifact.iterations
        self.inputs: tuple[Port, ...] = artifact.inputs
        self.outputs: tuple[Port, ...] = artifact.outputs
        self.target: str = build.target
        self.backend: str = artifact.backend
        self.batch: int | None = artifact.batch
        self.threads = threads
        self.on: str | None = getattr(engine, "on", None)
        self.notes: tuple[str, ...] = tuple(filter(None, [str(artifact.notes.get("fallback", ""))]))
        # What the firmware takes on a device; None on the host.
        self.flash_bytes: int | None = getattr(engine, "flash_bytes", None)
        self.ram_bytes: int | None = getattr(engine, "ram_bytes", None)
        self.stack_bound_bytes: int | None = getattr(engine, "stack_bound_bytes", None)
        self._solve = engine.solve
        self._dtypes = tuple(np.dtype(p.dtype) for p in artifact.inputs)
        # Shapes of the inputs that have been checked -> batch and what to allocate: all that a repeated call looks up.
        self._plans: dict[Any, tuple[int, Plan]] = {}
        self._count = len(artifact.inputs)
        one = self._count == 1 and len(artifact.outputs) == 1
        self._only = self._dtypes[0] if one else None

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """The answer after all K iterations; inputs by position or by name."""
        # The usual cases, straightened out: arrays that can be passed on, of shapes that were checked before.
        if self._only is not None and len(arrays) == 1:
            array = arrays[0]
            same = type(array) is np.ndarray and (array.dtype is self._only or array.dtype == self._only)
            if same and array.flags.carray:
                known = self._plans.get((array.shape,))
                if known is not None and not named:
                    output = np.empty(*known[1][0])
                    self._solve(arrays, (output,), known[0], self.iterations)
                    return output
        elif not named and len(arrays) == self._count:
            known = self._known(arrays)
            if known is not None:
                batch, plan = known
                if len(plan) == 1:
                    output = np.empty(*plan[0])
                    self._solve(arrays, (output,), batch, self.iterations)
                    return output
                outputs = [np.empty(*each) for each in plan]
                self._solve(arrays, outputs, batch, self.iterations)
                return tuple(outputs)
        ready, (batch, plan) = self._prepared(arrays, named)
        outputs = [np.empty(shape, dtype) for shape, dtype in plan]
        self._solve(ready, outputs, batch, self.iterations)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run(self, inputs: Mapping[str, Any], iterations: int | None = None) -> RunResult:
        """The answers by name after `iterations` of the K (all, where None), and how the run ended."""
        steps = self._checked_iterations(iterations)
        arrays, (batch, plan) = self._inputs_of(inputs)
        outputs = [np.empty(shape, dtype) for shape, dtype in plan]
        self._solve(arrays, outputs, batch, steps)
        named = {port.name: array for port, array in zip(self.outputs, outputs, strict=True)}
        return RunResult(named, status_of(named, steps, self.iterations), steps)

    def bind(self, inputs: Any, outputs: Any = None, *, iterations: int | None = None) -> BoundCall:
        """A call for these very arrays, checked now: `call()` solves what the inputs hold then, into the outputs.

        inputs, outputs: mappings from names to arrays, arrays in order, or the only one. They must have exactly the
        ports' types and shapes, be contiguous, and outputs must overlap nothing. Outputs that are not given are
        allocated. iterations: as for `run`. On c, tvm and numba a call takes less than 0.1 us over the compiled code
        and allocates nothing; an emulated device takes as long as ever. Bind one call for each thread.
        """
        return bind_call(self.artifact, self._engine, inputs, outputs, self._checked_iterations(iterations))

    def profile(
        self,
        inputs: Mapping[str, Any],
        repeats: int = 1000,
        truth: Any = None,
        seconds: float = 30.0,
    ) -> Profile:
        """Time, instructions and error of each iteration on these inputs.

        At most `repeats` repetitions (fewer where they would take longer than `seconds`). `truth` is the right answer
        of the first output, or a mapping from output names; without it the error is relative to the solver's own
        answer after K iterations. On an emulated target instructions are counted, for the first problem of the batch.
        """
        from unfoldc.runtime.measure import measure

        arrays, (batch, _) = self._inputs_of(inputs)
        return measure(self._build, self._engine, arrays, batch, repeats=repeats, truth=truth, seconds=seconds)

    def close(self) -> None:
        """Give a connected device back; the next call connects again. Nothing elsewhere."""
        close = getattr(self._engine, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(self, folder: str | Path) -> Path:
        """Write a folder that `unfoldc.load` reads, and return its path: sources, weights, compiled product, model.

        For a device, it is the folder of `write_project`. An earlier build there is replaced; what others put into the
        folder of a project stays. Raises InputError where the folder holds something other than an earlier build.
        """
        from unfoldc.runtime.artifact_folder import copy_build
        from unfoldc.runtime.products import weights_as_text
        from unfoldc.runtime.programs import programs_of
        from unfoldc.runtime.project_update import holds_project, update_folder

        if self._build.kind == "emulated":
            return self.write_project(folder).folder
        put = update_folder if holds_project(Path(folder)) else None
        programs = programs_of(self._engine, self._build.folder)
        return copy_build(self._build, Path(folder), weights_as_text(self.artifact), put, programs)

    def write_project(self, folder: str | Path) -> WrittenProject:
        """Write a solver for a device as a project that `unfoldc.load` reads, too (docs/boards.md).

        It has the sources, CMake files for gcc, clang and zig, an example, a self-test that was verified on the
        device's emulator, and a README with sizes and counted instructions. Files that others put there stay; files of
        an earlier project that were changed by hand stay as well, and are named in `kept`. Raises InputError for a
        solver of this computer, and where the folder holds something else or generated sources that were changed.
        """
        from unfoldc.runtime.backends import open_engine
        from unfoldc.runtime.programs import programs_of
        from unfoldc.runtime.project import write_project

        if self._build.kind != "emulated":
            found, allowed = f"the target {self.target}", "a device; `unfoldc targets` lists them"
            raise InputError("project", found, allowed, "Compile for a device, or use save.")
        engine = self._engine if self.on is None else open_engine(self._build)
        programs = {name for e in (self._engine, engine) for name in programs_of(e, self._build.folder)}
        return write_project(self._build, engine, Path(folder), sorted(programs))

    @property
    def signature(self) -> str:
        """The ports in one line: `y (batch, 25) float32 -> x (batch, 100) float32`."""
        return f"{signature(self.inputs, self.batch)} -> {signature(self.outputs, self.batch)}"

    def __repr__(self) -> str:
        return f"<Solver {self.signature}; {self.iterations} iterations, backend {self.backend}, target {self.target}>"

    def _known(self, arrays: tuple[Any, ...]) -> tuple[int, Plan] | None:
        """The plan of arrays that can be passed on as they are, of shapes that were checked before."""
        try:
            known = self._plans.get(tuple([array.shape for array in arrays]))
        except (AttributeError, TypeError):  # a list has no shape, and other things may have any
            return None
        if known is None:
            return None
        for array, dtype in zip(arrays, self._dtypes, strict=False):  # as many as there are inputs
            if type(array) is not np.ndarray or not array.flags.carray:
                return None
            if array.dtype is not dtype and array.dtype != dtype:
                return None
        return known

    def _prepared(
        self, positional: Sequence[Any], named: Mapping[str, Any]
    ) -> tuple[list[np.ndarray], tuple[int, Plan]]:
        """Arrays as the engine takes them, the batch, and the outputs to allocate."""
        values = bind(self.inputs, positional, named, self.batch)
        arrays = [as_typed(port, dtype, v) for port, dtype, v in zip(self.inputs, self._dtypes, values, strict=True)]
        key = tuple([array.shape for array in arrays])
        known = self._plans.get(key)
        if known is None:
            batch = common_batch(self.inputs, arrays, self.batch)
            plan = tuple(((batch, *p.shape) if p.batched else p.shape, np.dtype(p.dtype)) for p in self.outputs)
            if len(self._plans) >= _MANY_SHAPES:
                self._plans.clear()
            known = self._plans[key] = (batch, plan)
        return arrays, known

    def _inputs_of(self, inputs: Mapping[str, Any]) -> tuple[list[np.ndarray], tuple[int, Plan]]:
        if not isinstance(inputs, Mapping):
            found, example = type(inputs).__name__, f"{{{self.inputs[0].name!r}: array}}"
            raise InputError("inputs", found, "a mapping from input names to arrays", f"Pass {example}.")
        return self._prepared((), inputs)

    def _checked_iterations(self, iterations: int | None) -> int:
        if iterations is None:
            return self.iterations
        allowed = f"1 to {self.iterations}"
        try:
            steps = operator.index(iterations)
        except TypeError:
            raise InputError("iterations", repr(iterations), allowed, "Pass a whole number.") from None
        if isinstance(iterations, bool) or not 1 <= steps <= self.iterations:
            raise InputError("iterations", repr(iterations), allowed, "Choose one of them; all by default.")
        reason = self._build.artifact.early_stop
        if reason and steps < self.iterations:
            raise InputError(
                "iterations",
                f"{steps}, but this solver cannot stop early ({reason})",
                str(self.iterations),
                "Run all iterations.",
            )
        return steps
