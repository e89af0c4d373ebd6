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


@dataclass(frozen=True)
class ListKernel(Kernel):
    """A list of launches in place of a kernel; `function` is that of its largest kernel, for what reports say of it.

    `functions`: the driver's, by name. `batch`: the problems that it is for.
    """

    launches: LaunchList
    functions: Mapping[str, Any]
    blas: Cublas
    architecture: int
    parameters: tuple[Parameter, ...]
    stamped: bool = False
    batch: int = 0

    def at(self, batch: int) -> ListKernel:
        """The list for so many problems."""
        return replace(self, batch=batch)

    def blocks(self, batch: int) -> int:
        """What writes stamps: all of it together."""
        return 1

    def main_blocks(self) -> int:
        """The blocks of the largest kernel."""
        return _blocks(self.launches.main_kernel().results * self.batch, self.form.threads)

    def workspace_bytes(self) -> int:
        """Whole buffers of all problems, and what products need."""
        return self._own_bytes() + workspace_bytes(self.architecture)

    def prepared(self, words: Sequence[int]) -> Prepared:
        """The launches with these arguments, in order, ready to be put into a stream."""
        return Prepared(self, words)

    def run(self, driver: Driver, words: Sequence[int], stream: Any) -> None:
        """Put all launches into a stream."""
        self.prepared(words).run(driver, stream)

    def _own_bytes(self) -> int:
        return self.launches.reserved(self.batch) * self.form.workspace_bytes


@dataclass
class Prepared:
    """Calls of the driver and of the library, all arguments packed. `words` are those of the kernels' parameters."""

    kernel: ListKernel
    words: Sequence[int]
    _calls: list[tuple[Callable[..., Any] | None, tuple[Any, ...]]] = field(default_factory=list)
    _arguments: dict[int, Arguments] = field(default_factory=dict)

    def __post_init__(self) -> None:
        places = {(p.role, p.index): i for i, p in enumerate(self.kernel.parameters)}
        self._place = places.__getitem__
        found = self.kernel.launches
        batch, self._iterations = self.words[places["batch", 0]], places["iterations", 0]
        for launch, k in found.sequence(self.words[self._iterations], self.kernel.stamped):
            if isinstance(launch, MatrixProduct):
                self._calls.append(self._product(launch, k, batch))
                continue
            own = isinstance(launch, Elementwise)
            name, results = (launch.kernel, launch.results * batch) if own else (found.stamp, 0)
            threads = self.kernel.form.threads if own else 1
            shape = (self.kernel.functions[name], _blocks(results, threads), 1, 1, threads, 1, 1, 0)
            self._calls.append((None, (shape, (self._table(k), 0))))

    def run(self, driver: Driver, stream: Any) -> None:
        """Put the launches into a stream; the context is current."""
        kernel = self.kernel
        memory = self.words[self._place(("workspace", 0))] + kernel._own_bytes()
        with kernel.blas.within(int(stream), memory, workspace_bytes(kernel.architecture)):
            for function, arguments in self._calls:
                if function is not None:
                    function(*arguments)
                else:
                    before, after = arguments
                    driver("cuLaunchKernel", *before, stream, *after, doing="launching a kernel of a list")

    def _table(self, k: int) -> int:
        """The packed arguments of a kernel with the number of an iteration."""
        if k not in self._arguments:
            packed = self._arguments[k] = Arguments(len(self.words))
            words = list(self.words)
            words[self._iterations] = k
            packed.pack(words)
        return self._arguments[k].table

    def _product(self, p: MatrixProduct, k: int, batch: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        weights = replace(p.weights, first=p.weights.first + k * p.per_iteration)
        arrays = [(self._address(r), r.step) for r in (weights, p.x, p.out)]
        shape = (batch * p.rows, p.m, p.n)
        return self.kernel.blas.arguments(p.type, *arrays, shape, p.transposed, p.sign, p.adds)

    def _address(self, rows: Rows) -> int:
        """Where the first row of the first problem begins."""
        place = self.kernel.launches.places[rows.buffer]
        width = np.dtype(place.dtype).itemsize
        start = self.words[self._place((place.kind, place.index))]
        if place.kind == "workspace":
            return start + place.first * self.kernel.launches.reserved(self.kernel.batch) + rows.first * width
        return start + (place.first + rows.first) * width


def _blocks(results: int, threads: int) -> int:
    return max(1, min(-(-results // threads), _MOST_BLOCKS))
