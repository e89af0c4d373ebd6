"""A solver on an NVIDIA GPU, which takes arrays that lie there as well."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from unfoldc.errors import InputError
from unfoldc.kernels.artifact import Port
from unfoldc.runtime.bound import BoundCall, given_arrays, given_outputs
from unfoldc.runtime.cuda.bound_calls import bound_call
from unfoldc.runtime.cuda.calls import Given, any_on_gpu, given, look, solve
from unfoldc.runtime.cuda.engine import CudaEngine
from unfoldc.runtime.cuda.libraries import Torch, library_of
from unfoldc.runtime.cuda.torch_calls import TorchCalls
from unfoldc.runtime.ports import bind, shape_text
from unfoldc.runtime.result import RunResult, status_of
from unfoldc.runtime.solver import Solver

if TYPE_CHECKING:
    from unfoldc.runtime.profile import Profile


class CudaSolver(Solver):
    """A `Solver` whose calls also take arrays on a GPU: torch and CuPy tensors, JAX arrays, whatever knows
    `__cuda_array_interface__` or DLPack.

    They are neither copied nor converted. One launch goes into the stream that is current in their library, and the
    answers come back as arrays of the same library before it has run; a CUDA graph may capture a call. NumPy arrays are
    copied to the first GPU and back, and solved when the call returns.
    """

    _engine: CudaEngine
    _fast: TorchCalls | None = None

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """The answer after all K iterations; inputs by position or by name."""
        if self._fast is not None and not named and len(arrays) == self._count:
            try:
                answer = self._fast(arrays, tuple([array.shape for array in arrays]))
            except AttributeError:  # a list has no shape
                answer = None
            if answer is not None:
                return answer
        values = arrays if not named else tuple(bind(self.inputs, arrays, named, self.batch))
        if len(values) != self._count or not any_on_gpu(values):
            return super().__call__(*arrays, **named)
        return self._carefully(values)

    def _carefully(self, values: tuple[Any, ...]) -> Any:
        checked = given(self._engine, values, self.batch)
        answers = solve(self._engine, checked, self.iterations)
        if all(isinstance(library, Torch) for library in checked.libraries):
            self._fast = self._fast or TorchCalls(self._engine, cast(Torch, checked.library))
            self._fast.add(tuple([array.shape for array in values]), checked)
        return answers[0] if len(answers) == 1 else tuple(answers)

    def run(self, inputs: Mapping[str, Any], iterations: int | None = None) -> RunResult:
        """The answers by name after `iterations` of the K (all, where None), and how it ended, which is waited for."""
        values = self._values(inputs)
        if values is None:
            return super().run(inputs, iterations)
        steps = self._checked_iterations(iterations)
        arrays = given(self._engine, values, self.batch)
        answers = solve(self._engine, arrays, steps)
        copies = {p.name: self._copy(p, a) for p, a in zip(self.outputs, answers, strict=True)}
        named = {p.name: a for p, a in zip(self.outputs, answers, strict=True)}
        return RunResult(named, status_of(copies, steps, self.iterations), steps)

    def bind(self, inputs: Any, outputs: Any = None, *, iterations: int | None = None) -> BoundCall:
        """As for any solver; with arrays on a GPU a call is one launch in the stream that is current then.

        It is not waited for, allocates nothing and may be captured into a CUDA graph. A bound call has a workspace of
        its own: it may run at the same time as others, but not as itself. JAX arrays can be inputs only.
        """
        values = given_arrays(self.inputs, _in_order(inputs), self.batch)
        if not any_on_gpu(values):
            return super().bind(inputs, outputs, iterations=iterations)
        steps = self._checked_iterations(iterations)
        arrays = given(self._engine, values, self.batch)
        with arrays.code.driver.within(arrays.code.context):
            made = [
                self._output(port, array, arrays) for port, array in given_outputs(self.artifact, _in_order(outputs))
            ]
            self._check_apart(arrays, made)
            answer = made[0][0] if len(made) == 1 else tuple(array for array, _ in made)
            if arrays.batch:
                kernel, addresses = arrays.code.kernel(arrays.batch), [address for _, address in made]
                call = BoundCall(bound_call(arrays, kernel, addresses, answer, steps, self._engine))
            else:
                call = BoundCall(lambda: answer)
        call.inputs = MappingProxyType({p.name: array for p, array in zip(self.inputs, values, strict=True)})
        call.outputs = MappingProxyType({p.name: array for p, (array, _) in zip(self.outputs, made, strict=True)})
        call.batch, call.iterations = arrays.batch, steps
        return call

    def profile(
        self, inputs: Mapping[str, Any], repeats: int = 1000, truth: Any = None, seconds: float = 30.0
    ) -> Profile:
        """Time and error of each iteration on these inputs, as for any solver; what the kernel takes of the GPU.

        Seconds are those of a launch, by the GPU's clock, with all arrays in its memory.
        """
        values = self._values(inputs)
        if values is not None:
            arrays = given(self._engine, values, self.batch)
            stream = arrays.library.stream(arrays.views, arrays.code)
            inputs = {
                port.name: arrays.code.read(view.address, view.shape, np.dtype(port.dtype), stream)
                for port, view in zip(self.inputs, arrays.views, strict=True)
            }
        return super().profile(inputs, repeats, truth, seconds)

    def _values(self, inputs: Any) -> list[Any] | None:
        """The inputs in order, where they lie on a GPU."""
        if not isinstance(inputs, Mapping):
            return None  # which the careful path says
        values = bind(self.inputs, (), inputs, self.batch)
        return values if any_on_gpu(values) else None

    def _copy(self, port: Port, array: Any) -> np.ndarray:
        view, library = look(f"output {port.name}", port, array, self._engine)
        code = self._engine.code(view.ordinal)
        return code.read(view.address, view.shape, np.dtype(port.dtype), library.stream([view], code))

    def _output(self, port: Port, array: Any, arrays: Given) -> tuple[Any, int]:
        """An array for an answer and its address; a new one where none is given."""
        shape = (arrays.batch, *port.shape) if port.batched else port.shape
        code = arrays.code
        if array is None:
            return arrays.library.empty(shape, np.dtype(port.dtype), code, arrays.library.stream(arrays.views, code))
        where = f"output {port.name}"
        view, _ = look(where, port, array, self._engine)
        if view.shape != shape:
            do = f"Pass an array of shape {shape}, or None to have it allocated."
            raise InputError(
                where, f"shape {view.shape}", f"{shape_text(port, arrays.batch)}, for the inputs' batch", do
            )
        if not view.writable:
            raise InputError(where, "a read-only array", "an array that can be written to", "Leave it out.")
        if view.ordinal != code.ordinal:
            raise InputError(where, f"on GPU {view.ordinal}", f"GPU {code.ordinal}", "Copy all arrays to one GPU.")
        return array, view.address

    def _check_apart(self, arrays: Given, made: list[tuple[Any, int]]) -> None:
        """Raises InputError where an output overlaps another array."""
        spans = [
            (f"input {p.name}", v.address, _bytes(p, arrays.batch))
            for p, v in zip(self.inputs, arrays.views, strict=True)
        ]
        for port, (_, address) in zip(self.outputs, made, strict=True):
            size = _bytes(port, arrays.batch)
            for name, start, length in spans:
                if size and length and address < start + length and start < address + size:
                    found = f"its memory overlaps that of {name}"
                    raise InputError(f"output {port.name}", found, "arrays apart from each other", "Pass another.")
            spans.append((f"output {port.name}", address, size))


def _in_order(arrays: Any) -> Any:
    """A single array as a sequence of one."""
    return arrays if library_of(arrays) is None else (arrays,)


def _bytes(port: Port, batch: int) -> int:
    return port.size * np.dtype(port.dtype).itemsize * (batch if port.batched else 1)
