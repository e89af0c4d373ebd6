"""A program as launches over a whole batch: products of matrices, and kernels in which each thread makes a result.

A buffer holds the elements of all problems, `(batch, size)`. A launch sees everything that those before it wrote, so no
barriers are needed; between two products what is left of the nests runs as elementwise kernels.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from unfoldc.kernels.accesses import touches
from unfoldc.kernels.gpu.parallel import parallel_loops
from unfoldc.kernels.gpu.product import Product, product_of
from unfoldc.kernels.loops import Assign, Let, LoopProgram, Nest, Stmt


@dataclass(frozen=True)
class Elementwise:
    """Each thread runs `body` for one run of the loops `variables` of one problem; the last moves fastest."""

    variables: tuple[str, ...]
    extents: tuple[int, ...]
    body: tuple[Stmt, ...]
    origins: tuple[str, ...] = ()

    @property
    def results(self) -> int:
        """Runs for one problem."""
        total = 1
        for extent in self.extents:
            total *= extent
        return total


Task = Product | Elementwise


@dataclass(frozen=True)
class Launches:
    """What is launched for begin, for each iteration `(first, count, tasks)`, and for end."""

    program: LoopProgram
    begin: tuple[Task, ...]
    steps: tuple[tuple[int, int, tuple[Task, ...]], ...]
    end: tuple[Task, ...]

    @property
    def tasks(self) -> list[Task]:
        """All of them, in order."""
        return [*self.begin, *(t for _, _, tasks in self.steps for t in tasks), *self.end]

    @property
    def touched(self) -> list[str]:
        """The buffers that are read or written, in the program's order."""
        found: set[str] = set()
        for task in self.tasks:
            if isinstance(task, Product):
                found |= {task.weights.buffer, task.x.buffer, task.out.buffer}
            else:
                found |= touches(task.body)
        return [name for name in self.program.buffers if name in found]


def launches(program: LoopProgram, shared: Collection[str], least: int = 0) -> Launches:
    """The launches of a program whose products stand apart: those with weights of at least `least` elements.

    `shared` are the buffers that all problems share.
    """

    def tasks(body: Sequence[Stmt]) -> tuple[Task, ...]:
        return tuple(t for s in body for t in _tasks(s, program, shared, least))

    steps = tuple((step.first, step.count, tasks(step.body)) for step in program.steps)
    return Launches(program, tasks(program.begin), steps, tasks(program.end))


def _tasks(s: Stmt, program: LoopProgram, shared: Collection[str], least: int) -> list[Task]:
    product = product_of(s, program.buffers, shared, least)
    if product is not None:
        return [product]
    origins = s.origins if isinstance(s, Nest) else ()
    body = s.body if isinstance(s, Nest) else (s,)
    if len(body) > 1 and not any(isinstance(x, Let | Assign) for x in body):
        return [t for x in body for t in _tasks(Nest(origins, (x,)), program, shared, least)]
    loops = parallel_loops(body, {})
    body = loops[-1].body if loops else body
    extents = tuple(loop.extent for loop in loops if isinstance(loop.extent, int))
    return [Elementwise(tuple(loop.var for loop in loops), extents, tuple(body), origins)]
