"""Chooses the cheaper form of products with matrices that have structure.

Each step is a pass of its own. The order matters: a stack of matrices that share one becomes a product with that one,
which may then have low rank; two products are joined only where that is cheaper than low rank could be.
All decide by constants and shapes of matrices alone, never by how many vectors are multiplied: that may be a batch.
"""

from __future__ import annotations

from unfoldc.kernels.passes.banded import banded_products
from unfoldc.kernels.passes.diagonal_plus_matrix import diagonal_plus_matrix
from unfoldc.kernels.passes.low_rank import low_rank_products
from unfoldc.kernels.passes.precomputed_products import precomputed_products
from unfoldc.kernels.passes.shared_matrix import shared_matrices
from unfoldc.kernels.passes.toeplitz import toeplitz_products
from unfoldc.kernels.program import Program

STRUCTURES = (
    diagonal_plus_matrix,
    precomputed_products,
    shared_matrices,
    banded_products,
    low_rank_products,
    toeplitz_products,
)


def recognise_structure(program: Program) -> Program:
    """The program with structured products in their cheaper form; what it no longer needs is left to `remove_dead`."""
    for structure in STRUCTURES:
        program = structure(program)
    return program
