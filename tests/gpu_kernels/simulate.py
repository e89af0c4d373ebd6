"""The process of `simulator.py`: takes launches from stdin, answers with the arguments as they are afterwards."""

from __future__ import annotations

import pickle
import sys
import traceback
from typing import Any

import numpy as np
from numba import cuda


def launched(source: str, kernel: str, launch: tuple[int, ...], values: list[Any]) -> list[Any]:
    """Runs a kernel of a module."""
    namespace: dict[str, Any] = {}
    exec(compile(source, "solver.py", "exec"), namespace)
    with np.errstate(all="ignore"):
        cuda.jit(namespace[kernel])[launch](*values)
    return values


def main() -> None:
    """Answers until the input ends; an error is answered as text."""
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer: Any = launched(*request)
        except Exception:
            answer = traceback.format_exc()
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()


main()
