"""One case for each way to use each operator: run-time inputs, constants that shape the result, attributes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

SPECIAL = np.array([0.0, -0.0, 1.5, -2.5, 0.5, -0.5, 3e38, -3e38, np.inf, -np.inf, np.nan, 1e-40], np.float32)
_rng = np.random.default_rng(7)


def numbers(*shape: int) -> np.ndarray:
    """Normally distributed numbers."""
    return _rng.standard_normal(shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    """Integers as ONNX takes them for shapes and axes."""
    return np.array(values, np.int64)


@dataclass(frozen=True)
class OperatorCase:
    """`inputs` arrive at run time, `constants` stand in the file, by position; other positions are left out.

    `results` is the number of results asked for. The oracle is ONNX's reference evaluator, or "onnxruntime" where that
    one is wrong or lacks the operator. An operator of another domain has it in front, with a dot; NumPy is its oracle.
    """

    operator: str
    inputs: dict[int, np.ndarray]
    constants: dict[int, np.ndarray] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 20
    results: int = 1
    oracle: str = "reference"


CASES: list[OperatorCase] = []


def add(
    operator: str, *inputs: Any, opset: int = 20, results: int = 1, oracle: str = "reference", **attributes: Any
) -> None:
    """Adds a case with all inputs at run time; None leaves one out."""
    given = {i: np.asarray(x) for i, x in enumerate(inputs) if x is not None}
    CASES.append(OperatorCase(operator, given, {}, attributes, opset, results, oracle))


def shaped(
    operator: str,
    x: np.ndarray,
    *constants: np.ndarray | None,
    opset: int = 20,
    results: int = 1,
    oracle: str = "reference",
    **attributes: Any,
) -> None:
    """Adds a case with the first input at run time and the others in the file."""
    known = {i + 1: np.asarray(c) for i, c in enumerate(constants) if c is not None}
    CASES.append(OperatorCase(operator, {0: x}, known, attributes, opset, results, oracle))
