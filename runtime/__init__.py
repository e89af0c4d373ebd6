"""Load and run compiled solvers, and measure them iteration by iteration."""

from __future__ import annotations

if __name__ != "unfoldc.runtime":
    raise ImportError("import this package as unfoldc.runtime; the folder is not a package of its own")

from unfoldc.runtime.bound import BoundCall
from unfoldc.runtime.load import load
from unfoldc.runtime.profile import IterationRow, Profile, Row
from unfoldc.runtime.result import RunResult, Status
from unfoldc.runtime.solver import Solver

__all__ = ["BoundCall", "IterationRow", "Profile", "Row", "RunResult", "Solver", "Status", "load"]
