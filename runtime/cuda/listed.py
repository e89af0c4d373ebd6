"""Runs a list of launches on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from unfoldc.runtime.cuda.cublas import Cublas, workspace_bytes
from unfoldc.runtime.cuda.driver import Driver
from unfoldc.runtime.cuda.kernel import Arguments, Kernel
from unfoldc.runtime.cuda.launch_facts import Parameter
from unfoldc.runtime.cuda.launch_list import Elementwise, LaunchList, MatrixProduct, Rows

_MOST_BLOCKS = 2**31 - 1
_MANY_PLANS = 64


@dataclass(frozen=True)
class ListKernel(Kernel):
    """A list of launches in place of a kernel; `function` is that of its largest kernel, for what reports say of it.

    None where it has no kernel. `functions`: the driver's, by name. `batch`: the problems that it is for. `plans` are
    those made before.
    """

    launches: LaunchList
    functions: Mapping[str, Any]
    blas: Cublas
    architecture: int
    parameters: tuple[Parameter, ...]
    batch: int = 0
    plans: dict[tuple[int, int], Plan] = field(default_factory=dict, compare=False)

    def at(self, batch: int) -> ListKernel:
        """The list for so many problems."""
        return replace(self, batch=batch)

    def blocks(self, batch: int) -> int:
        """The blocks of the largest kernel."""
        main = self.launches.main_kernel()
        return 0 if main is None else _blocks(main.results * batch, self.form.threads)

    def workspace_bytes(self) -> int:
        """Whole buffers of all problems, and what products need."""
        return self._own_bytes() + workspace_bytes(self.architecture)

    def prepared(self, words: Sequence[int]) -> Prepared:
        """The launches with these arguments, in order, ready to be put into a stream."""
        return Prepared(self, words)

    def run(self, driver: Driver, words: Sequence[int], stream: Any, marks: Sequence[Any] = ()) -> None:
        """Put all launches into a stream; `marks` as in `Prepared.run`."""
        self.prepared(words).run(driver, stream, marks)

    def word(self, role: str, index: int = 0) -> int:
        """The number of a kernel's parameter."""
        return next(i for i, p in enumerate(self.parameters) if (p.role, p.index) == (role, index))

    def plan(self, iterations: int) -> Plan:
        """What does not depend on addresses; the same for all calls with as many problems and iterations."""
        key = self.batch, iterations
        known = self.plans.get(key)
        if known is None:
            if len(self.plans) >= _MANY_PLANS:
                self.plans.clear()
            known = self.plans[key] = [
                [
                    (self._product(x, k), (), 0)
                    if isinstance(x, MatrixProduct)
                    else (None, self._shape(x), k * x.counts)
                    for x in part
                ]
                for k, part in self.launches.parts(iterations)
            ]
        return known

    def products_memory(self, words: Sequence[int]) -> int:
        """What products work in: it is behind the buffers."""
        return words[self.word("workspace")] + self._own_bytes()

    def _own_bytes(self) -> int:
        return self.launches.reserved(self.batch) * self.form.workspace_bytes

    def _shape(self, x: Elementwise) -> tuple[Any, ...]:
        threads = self.form.threads
        return self.functions[x.kernel], _blocks(x.results * self.batch, threads), 1, 1, threads, 1, 1, 0

    def _product(self, p: MatrixProduct, k: int) -> _Product:
        weights = replace(p.weights, first=p.weights.first + k * p.per_iteration)
        shape = (self.batch * p.rows, p.m, p.n)
        function, before, beta = self.blas.product(p.type, shape, p.transposed, p.sign, p.adds)
        return _Product(function, before, self._array(weights), self._array(p.x), beta, self._array(p.out))

    def _array(self, rows: Rows) -> tuple[int, int, int]:
        """The number of the word, the bytes from there to the first row of the first problem, the step of rows."""
        place = self.launches.places[rows.buffer]
        width = np.dtype(place.dtype).itemsize
        start = place.first * (self.launches.reserved(self.batch) if place.kind == "workspace" else width)
        return self.word(place.kind, place.index), start + rows.first * width, rows.step


@dataclass(frozen=True, slots=True)
class _Product:
    """A call of the library; an array is the number of the word that says where it is, and bytes from there."""

    function: Callable[..., Any]
    before: tuple[Any, ...]
    weights: tuple[int, int, int]
    x: tuple[int, int, int]
    beta: int
    out: tuple[int, int, int]

    def arguments(self, words: Sequence[int]) -> tuple[Any, ...]:
        """All arguments, given the words."""
        (w, w_from, w_step), (x, x_from, x_step), (o, o_from, o_step) = self.weights, self.x, self.out
        return (
            *self.before, words[w] + w_from, w_step, words[x] + x_from, x_step, self.beta, words[o] + o_from, o_step,
        )  # fmt: skip


Plan = list[list[tuple[_Product | None, tuple[Any, ...], int]]]
"""For begin, each iteration and end their launches.

Each is a product, or the kernel with the shape of its launch and the iteration's number that it is told.
"""


class Prepared:
    """Calls of the driver and of the library, all arguments packed. `words` are those of the kernels' parameters."""

    __slots__ = ("_kernel", "_memory", "_packed", "_parts")

    def __init__(self, kernel: ListKernel, words: Sequence[int]) -> None:
        self._kernel = kernel
        self._memory = kernel.products_memory(words)
        number = kernel.word("iterations")
        self._packed: dict[int, Arguments] = {}
        self._parts: list[list[tuple[Callable[..., Any] | None, tuple[Any, ...]]]] = []
        for part in kernel.plan(words[number]):
            calls: list[tuple[Callable[..., Any] | None, tuple[Any, ...]]] = []
            self._parts.append(calls)
            for product, shape, k in part:
                if product is not None:
                    calls.append((product.function, product.arguments(words)))
                    continue
                packed = self._packed.get(k)
                if packed is None:
                    packed = self._packed[k] = Arguments(len(words))
                    packed.pack([*words[:number], k, *words[number + 1 :]])
                calls.append((None, (*shape, packed.table)))

    def run(self, driver: Driver, stream: Any, marks: Sequence[Any] = ()) -> None:
        """Put the launches into a stream; the context is current.

        `marks`: events that are recorded before begin and behind begin, each iteration and end, if there are any.
        """
        kernel = self._kernel
        with kernel.blas.within(int(stream), self._memory, workspace_bytes(kernel.architecture)):
            launch = driver.api.cuLaunchKernel
            if marks:
                driver("cuEventRecord", marks[0], stream)
            for number, part in enumerate(self._parts, 1):
                for function, arguments in part:
                    if function is not None:
                        function(*arguments)
                        continue
                    *shape, table = arguments
                    error = launch(*shape, stream, table, 0)[0]
                    if int(error):
                        raise driver.failure(error, "launching a kernel of a list")
                if marks:
                    driver("cuEventRecord", marks[number], stream)


def _blocks(results: int, threads: int) -> int:
    return max(1, min(-(-results // threads), _MOST_BLOCKS))
