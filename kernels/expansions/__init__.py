"""The table of expansions, filled."""

from unfoldc.kernels.expansions import (  # noqa: F401  (they register)
    attention,
    blocks,
    convolution,
    einsum,
    fourier,
    indexing,
    linear_algebra,
    norms,
    padding,
    pooling,
    recurrent,
    resizing,
    scattering,
    selections,
    softmax,
    sorting,
    splits,
)
from unfoldc.kernels.expansions.table import EXPANSIONS, Call, Expansion, Maker, expands

__all__ = ["EXPANSIONS", "Call", "Expansion", "Maker", "expands"]
