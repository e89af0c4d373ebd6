"""Our own solvers: `solver(y)` as a user calls it, and the call on arrays that are bound once where there is one."""

from __future__ import annotations

import functools
from typing import Any

import unfoldc
from speed_peers.base import Built, Task, Variants
from unfoldc.runtime.solver import Solver


def variants(task: Task, backend: str) -> Variants:
    """The call that allocates its answer, and the bound one."""
    found: dict[str, Any] = {"call": lambda: _call(task, backend)}
    if hasattr(Solver, "bind"):
        found["bound"] = lambda: _bound(task, backend)
    return found


def _solver(task: Task, backend: str) -> Any:
    return unfoldc.compile(task.files["dynamic"], backend=backend)


def _call(task: Task, backend: str) -> Built:
    run = functools.partial(_solver(task, backend), *task.inputs)
    return Built(run, run)


def _bound(task: Task, backend: str) -> Built:
    solver, output = _solver(task, backend), task.output()
    return Built.into(output, solver.bind(list(task.inputs), [output]), solver)
