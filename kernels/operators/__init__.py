"""The table of operators, filled."""

from unfoldc.kernels.operators import (  # noqa: F401  (they register)
    activations,
    bands,
    correlate,
    cumulative,
    diagonals,
    elementwise,
    factorisations,
    generators,
    joins,
    matmul,
    padded,
    patches,
    placing,
    reduce,
    searching,
    transcendental,
    triangles,
    views,
)
from unfoldc.kernels.operators.table import INTERNAL_OPERATORS, OPERATORS, Operator, result_types

__all__ = ["INTERNAL_OPERATORS", "OPERATORS", "Operator", "result_types"]
