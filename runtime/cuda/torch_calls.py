"""Calls with PyTorch's tensors of shapes that were checked before: what is left is a few checks and the launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unfoldc.runtime.cuda.calls import Given
from unfoldc.runtime.cuda.code import DeviceCode
from unfoldc.runtime.cuda.engine import CudaEngine
from unfoldc.runtime.cuda.kernel import Arguments, Kernel
from unfoldc.runtime.cuda.libraries import Torch
from unfoldc.runtime.cuda.listed import ListKernel

_MANY_SHAPES = 256


@dataclass(frozen=True, slots=True)
class _Plan:
    """What does not change between calls with tensors of the same shapes, on one GPU."""

    code: DeviceCode
    context: int
    ordinal: int
    kernel: Kernel
    words: list[int]
    outputs: tuple[tuple[tuple[int, ...], Any, Any, int], ...]
    """Shape, element type and device in PyTorch's terms, and the place of the address among the words."""
    before: tuple[Any, ...]
    needs_workspace: bool


class TorchCalls:
    """The fast way of one solver, for shapes that `add` was told of."""

    def __init__(self, engine: CudaEngine, library: Torch) -> None:
        self._engine, self._library = engine, library
        self._plans: dict[Any, _Plan] = {}
        self._kind: Any = library.tensor
        self._types = [library.own(np.dtype(p.dtype)) for p in engine.artifact.inputs]
        self._empty: Callable[..., Any] = library.new
        self._stream = library.current
        self._pool: list[Arguments] = []

    def add(self, shapes: Any, arrays: Given) -> None:
        """Remember how a call was made that went the careful way."""
        known = self._plans.get(shapes)
        if not arrays.batch or (known is not None and known.code is arrays.code):
            return
        if len(self._plans) >= _MANY_SHAPES:
            self._plans.clear()
        code, batch, ports = arrays.code, arrays.batch, self._engine.artifact.outputs
        kernel = code.kernel(batch)
        if isinstance(kernel, ListKernel):  # several launches, which take their own preparation
            return
        form = kernel.form
        device = self._library.device(code.ordinal)
        places = [i if i is not None else -1 for i in code.output_places]
        outputs = tuple(
            ((batch, *p.shape) if p.batched else p.shape, self._library.own(np.dtype(p.dtype)), device, place)
            for p, place in zip(ports, places, strict=True)
        )
        words = code.arguments(
            kernel, [0] * len(arrays.views), [0] * len(ports), batch, self._engine.artifact.iterations
        )
        self._plans[shapes] = _Plan(
            code, int(code.context), code.ordinal, kernel, words, outputs,
            (kernel.function, kernel.blocks(batch), 1, 1, form.threads, 1, 1, form.shared_bytes),
            bool(kernel.workspace_bytes()),
        )  # fmt: skip

    def __call__(self, arrays: Sequence[Any], shapes: Any) -> Any:
        """The answer; None where the call has to go the careful way."""
        plan = self._plans.get(shapes)
        if plan is None:
            return None
        code = plan.code
        words = plan.words.copy()
        for array, dtype, place in zip(arrays, self._types, code.input_places, strict=True):
            if type(array) is not self._kind or array.dtype is not dtype or array.get_device() != plan.ordinal:
                return None
            if array.requires_grad or not array.is_contiguous() or array.is_neg():
                return None
            if place is not None:
                words[place] = array.data_ptr()
        api = code.driver.api
        if code.context is None or int(api.cuCtxGetCurrent()[1]) != plan.context:
            return None
        answers = []
        for shape, dtype, device, place in plan.outputs:
            answer = self._empty(shape, dtype=dtype, device=device)
            answers.append(answer)
            if place >= 0:
                words[place] = answer.data_ptr()
        stream = self._stream(plan.ordinal)
        if plan.needs_workspace:
            code.put_workspace(words, plan.kernel, stream)
        try:
            packed = self._pool.pop()
        except IndexError:
            packed = Arguments(len(words))
        packed.pack(words)
        if plan.kernel.form.cooperative:
            error = api.cuLaunchCooperativeKernel(*plan.before, stream, packed.table)[0]
        else:
            error = api.cuLaunchKernel(*plan.before, stream, packed.table, 0)[0]
        self._pool.append(packed)
        if error:
            raise code.driver.failure(error, f"launching {plan.before[1]} blocks of {plan.before[4]} threads")
        return answers[0] if len(answers) == 1 else tuple(answers)
