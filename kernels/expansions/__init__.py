"""The table of expansions, filled."""

from unfoldc.kernels.expansions import splits  # noqa: F401  (they register)
from unfoldc.kernels.expansions.table import EXPANSIONS, Call, Expansion, Maker, expands

__all__ = ["EXPANSIONS", "Call", "Expansion", "Maker", "expands"]
