"""A bound call of a form that is a list of launches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from unfoldc.runtime.cuda.calls import Given
from unfoldc.runtime.cuda.listed import ListKernel


class BoundList:
    """Launches whose arguments are packed, put into the stream that is current at the call.

    It allocates nothing and waits for nothing, so that a CUDA graph may capture it. The memory is kept alive with it.
    """

    __slots__ = ("__weakref__", "_answer", "_code", "_kept", "_prepared", "_stream", "_workspace")

    def __init__(
        self, arrays: Given, kernel: ListKernel, addresses: Sequence[int], answer: Any, iterations: int, kept: Any
    ) -> None:
        code = arrays.code
        inputs = [view.address for view in arrays.views]
        self._code, self._answer, self._kept = code, answer, (arrays, kept)
        self._workspace = code.new_workspace(kernel)
        words = code.arguments(kernel, inputs, addresses, arrays.batch, iterations, self._workspace)
        self._prepared = kernel.prepared(words)
        library, views = arrays.library, arrays.views
        single = all(other is library for other in arrays.libraries) and not any(view.stream for view in views)
        self._stream: Callable[[], int] = (lambda: library.stream(views, code)) if single else arrays.stream

    def __call__(self) -> Any:
        """Launch; the arrays of the answers."""
        code = self._code
        with code.driver.within(code.context):
            self._prepared.run(code.driver, self._stream())
        return self._answer

    def __del__(self) -> None:
        workspace = getattr(self, "_workspace", 0)
        if workspace:
            self._code.memory.give_back(workspace)
