"""Calls whose arguments are packed once; what is left is to put the launches into the stream that is current then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from unfoldc.runtime.cuda.calls import Given
from unfoldc.runtime.cuda.kernel import Arguments, Kernel
from unfoldc.runtime.cuda.listed import ListKernel

# What a launch answers where another context is current than that of its kernel, or none.
_INVALID_CONTEXT, _INVALID_HANDLE = 201, 400


class _Bound:
    """What the kinds share: the words of a launch, and its memory, which lives as long as the call."""

    __slots__ = ("__weakref__", "_answer", "_code", "_kept", "_stream", "_workspace")

    def __init__(self, arrays: Given, kernel: Kernel, answer: Any, kept: Any) -> None:
        self._code, self._answer, self._kept = arrays.code, answer, (arrays, kept)
        self._workspace = arrays.code.new_workspace(kernel)
        self._stream: Callable[[], int] = arrays.stream_of_calls()

    def _words(self, arrays: Given, kernel: Kernel, addresses: Sequence[int], iterations: int) -> list[int]:
        inputs = [view.address for view in arrays.views]
        return self._code.arguments(kernel, inputs, addresses, arrays.batch, iterations, self._workspace)

    def __del__(self) -> None:
        workspace = getattr(self, "_workspace", 0)
        if workspace:
            self._code.memory.give_back(workspace)


class BoundLaunch(_Bound):
    """A call is one of the driver. It allocates nothing and waits for nothing, so that a CUDA graph may capture it."""

    __slots__ = ("_after", "_arguments", "_before", "_launch", "_several")

    def __init__(
        self, arrays: Given, kernel: Kernel, addresses: Sequence[int], answer: Any, iterations: int, kept: Any
    ) -> None:
        super().__init__(arrays, kernel, answer, kept)
        words = self._words(arrays, kernel, addresses, iterations)
        self._arguments = Arguments(len(words))
        self._arguments.pack(words)
        form, api = kernel.form, self._code.driver.api
        self._launch: Callable[..., Any] = api.cuLaunchCooperativeKernel if form.cooperative else api.cuLaunchKernel
        self._before = (kernel.function, kernel.blocks(arrays.batch), 1, 1, form.threads, 1, 1, form.shared_bytes)
        self._after = (self._arguments.table,) if form.cooperative else (self._arguments.table, 0)
        self._several = int(self._code.driver("cuDeviceGetCount")) > 1

    def __call__(self) -> Any:
        """Launch; the arrays of the answers."""
        stream = self._stream()
        error = _INVALID_CONTEXT if self._several else self._launch(*self._before, stream, *self._after)[0]
        if error:
            self._again(error, stream)
        return self._answer

    def _again(self, error: Any, stream: int) -> None:
        """Once more with our context, where another may be current, or is, or none is; else it is a failure."""
        driver = self._code.driver
        if int(error) in (_INVALID_CONTEXT, _INVALID_HANDLE):
            with driver.within(self._code.context):
                error = self._launch(*self._before, stream, *self._after)[0]
        if int(error):
            raise driver.failure(error, "launching a bound call")


class BoundList(_Bound):
    """As `BoundLaunch`, for a form that is a list of launches."""

    __slots__ = ("_prepared",)

    def __init__(
        self, arrays: Given, kernel: ListKernel, addresses: Sequence[int], answer: Any, iterations: int, kept: Any
    ) -> None:
        super().__init__(arrays, kernel, answer, kept)
        self._prepared = kernel.prepared(self._words(arrays, kernel, addresses, iterations))

    def __call__(self) -> Any:
        """Launch; the arrays of the answers."""
        code = self._code
        stream = self._stream()
        with code.driver.within(code.context):
            self._prepared.run(code.driver, stream)
        return self._answer


def bound_call(
    arrays: Given, kernel: Kernel, addresses: Sequence[int], answer: Any, iterations: int, kept: Any
) -> Callable[[], Any]:
    """A call that writes to `addresses` and returns `answer`; it keeps `kept` alive. The context is current."""
    if isinstance(kernel, ListKernel):
        return BoundList(arrays, kernel, addresses, answer, iterations, kept)
    return BoundLaunch(arrays, kernel, addresses, answer, iterations, kept)
