"""The table of operators, filled."""

from unfoldc.kernels.operators import elementwise, generators, joins, matmul, reduce, views  # noqa: F401  (they register)
from unfoldc.kernels.operators.table import INTERNAL_OPERATORS, OPERATORS, Operator, result_types

__all__ = ["INTERNAL_OPERATORS", "OPERATORS", "Operator", "result_types"]
