"""Jacobi sweeps: the Neumann series with D = diag(A), damped."""

from __future__ import annotations

from unfoldc.unfold_train.approximations.iteration_matrix import Learn, demand_between, demand_count
from unfoldc.unfold_train.approximations.neumann import Neumann


class Jacobi(Neumann):
    """x ← x + ω diag(A)⁻¹(b - A x) from x = ω diag(A)⁻¹b on, with the damping ω.

    After p sweeps, x = Σ Nⁱ ω diag(A)⁻¹b with N = I - ω diag(A)⁻¹A and i = 0 .. p: the Neumann series of order p with
    D = diag(A)/ω, and it is computed as that. What is learned are the factors cᵢ of its terms; factors in the sweeps
    themselves would have equal gradients at equal starts. A warm start takes p sweeps from the previous answer.

    Cost: sweeps · n² multiply-adds for each right-hand side; n right-hand sides for an inverse, see Neumann. Converges
    where the spectral radius of I - ω diag(A)⁻¹A is below 1: with ω = 1 for strictly diagonally dominant A, with
    ω < 2/λ_max(diag(A)⁻¹A) for symmetric positive definite A.

    Source: C. G. J. Jacobi, "Ueber eine neue Auflösungsart der bei der Methode der kleinsten Quadrate vorkommenden
    lineären Gleichungen", Astronomische Nachrichten 22 (1845); damping: Y. Saad, "Iterative Methods for Sparse Linear
    Systems", 2nd edition (2003), section 4.1.
    """

    def __init__(self, sweeps: int = 1, damping: float = 1.0, warm_start: bool = False, learn: Learn = "none") -> None:
        demand_count("Jacobi(sweeps=...)", sweeps)
        demand_between("Jacobi(damping=...)", damping, 0, 2)
        super().__init__(sweeps, "diagonal", warm_start, learn)
        self.options = {"sweeps": sweeps, "damping": damping, "warm_start": warm_start, "learn": learn}
        self.damping = damping
