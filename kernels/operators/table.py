"""The table of operators: everything the compiler knows of an ONNX operator is one entry here.

Four kinds of operator, by how an element of the result is made:
  pointwise  one scalar expression of the input elements at the same place (NumPy broadcasting);
  view       the element of one input at another place: no arithmetic, no copy;
  reduction  a loop that accumulates;
  sequence   loops over the whole result, in which an element depends on those before it.
Import (types), the NumPy reference, constant folding, lowering, cost and documentation are keyed by this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from unfoldc.kernels.build import ZERO
from unfoldc.kernels.loops import Expr, Stmt
from unfoldc.kernels.program import Node, TensorType

Arrays = Sequence[np.ndarray | None]
Index = tuple[Expr, ...]


class Lowering(Protocol):
    """What an operator may ask of the lowering while it builds one element of its result."""

    def type(self, value: str) -> TensorType:
        """Element type and shape of a value."""
        ...

    def constant(self, value: str) -> np.ndarray | None:
        """The content of a value that is the same constant in each iteration, else None."""
        ...

    def element(self, value: str, at: Index) -> Expr:
        """The element of a value; broadcasting is the operator's affair, see `broadcast_index`."""
        ...

    def emit(self, statement: Stmt) -> None:
        """Adds a statement to the block under construction."""
        ...

    def fresh(self, prefix: str) -> str:
        """A new identifier."""
        ...

    def bounds(self, value: str) -> tuple[float, float] | None:
        """Least and greatest element of a constant, over all iterations; None for what is computed at run time."""
        ...

    def nested(self, build: Callable[[], None]) -> tuple[Stmt, ...]:
        """The statements that `build` emits, as a block of their own."""
        ...


@dataclass(frozen=True)
class Operator:
    """One entry.

    evaluate(attributes, inputs) is the NumPy meaning, element(lowering, node, at) the expression of one result element.
    infer(attributes, types, constants) gives the result types without making the result, whose claimed size nobody has
    checked yet; operators that make views of NumPy arrays go without it: their types are read off `evaluate` on zeros.
    flops counts floating-point operations from the input and output types. `constant_inputs` are positions whose value
    decides a shape or an index map and must be known at compile time. `run_types` are the element types of the first
    input that can be computed at run time, empty for all.
    nest(lowering, node, buffer) is for operators of kind "sequence", whose elements are not independent of each other:
    it emits the loops that store the whole result, into `buffer` alone, which it may read again. Where there is one
    store, it runs once for each element, and no operand is read at that element's place later.
    """

    name: str
    kind: str
    evaluate: Callable[[Mapping[str, Any], Arrays], tuple[np.ndarray, ...]]
    element: Callable[[Lowering, Node, Index], Expr]
    flops: Callable[[Sequence[TensorType], TensorType], int] = lambda inputs, output: 0
    infer: Callable[[Mapping[str, Any], Sequence[TensorType | None], Arrays], tuple[TensorType, ...]] | None = None
    constant_inputs: tuple[int, ...] = ()
    run_types: tuple[str, ...] = ()
    nest: Callable[[Lowering, Node, str], None] | None = None


FLOATS = ("float32", "float64")
NUMBERS = (*FLOATS, "int32", "int64")
OPERATORS: dict[str, Operator] = {}


def register(operator: Operator) -> None:
    """Adds an entry; a second one of the same name is a mistake."""
    if operator.name in OPERATORS:
        raise ValueError(f"operator {operator.name} is registered twice")
    OPERATORS[operator.name] = operator


# Operators of our own, made by expansions; no file may use them.
INTERNAL_OPERATORS: frozenset[str] = frozenset(
    {"Window", "Diagonal", "Padded", "Patches", "Correlate", "Pick", "Place", "Put", "TopIndices"}
    | {"Band", "Toeplitz"}
    | {"Cholesky", "LowerUpper", "SolveTriangular", "SolveFactored", "InverseFactored"}
)


def result_types(
    operator: Operator, attributes: Mapping[str, Any], types: Sequence[TensorType | None], constants: Arrays
) -> tuple[TensorType, ...]:
    """Types of the results; raises ValueError or IndexError where the inputs do not fit together."""
    if operator.infer is not None:
        return operator.infer(attributes, types, constants)
    zeros = [
        c if c is not None else (None if t is None else np.broadcast_to(np.zeros((), t.dtype), t.shape))
        for t, c in zip(types, constants, strict=True)
    ]
    with np.errstate(all="ignore"):
        results = operator.evaluate(attributes, zeros)
    return tuple(TensorType(str(r.dtype), tuple(r.shape)) for r in results)


def given(types: Sequence[TensorType | None], i: int) -> TensorType:
    """Type of input `i`, which must be there."""
    found = types[i] if i < len(types) else None
    if found is None:
        raise ValueError(f"input {i} is missing")
    return found


def array(values: Arrays, i: int) -> np.ndarray:
    """Input `i`, which must be there."""
    value = values[i] if i < len(values) else None
    if value is None:
        raise ValueError(f"input {i} is missing")
    return value


def optional(values: Arrays, i: int) -> np.ndarray | None:
    """Input `i`, or None where the node leaves it out."""
    return values[i] if i < len(values) else None


def broadcast_index(at: Index, shape: tuple[int, ...]) -> Index:
    """The index into an operand of this shape when the result is read at `at` (NumPy broadcasting)."""
    own = at[len(at) - len(shape) :]
    return tuple(ZERO if n == 1 else i for i, n in zip(own, shape, strict=True))
