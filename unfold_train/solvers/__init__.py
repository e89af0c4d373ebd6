"""Classical solvers, found by name."""

from __future__ import annotations

from collections.abc import Iterable

from unfoldc.errors import InputError
from unfoldc.unfold_train.solver import Solver
from unfoldc.unfold_train.solvers.beamforming import HybridBeamforming, SpectralBeamforming
from unfoldc.unfold_train.solvers.box_admm import BoxAdmm, GramBoxAdmm, Lmmse
from unfoldc.unfold_train.solvers.fista import Fista
from unfoldc.unfold_train.solvers.ista import Ista, Lista
from unfoldc.unfold_train.solvers.robust_pca import RobustPca, RobustPcaFromFactors
from unfoldc.unfold_train.solvers.synthesis import SynthesisFista, SynthesisIsta, SynthesisLista

SOLVERS: dict[str, type[Solver]] = {
    s.__name__: s
    for s in (
        *(Ista, Lista, Fista, SynthesisIsta, SynthesisLista, SynthesisFista),
        *(BoxAdmm, GramBoxAdmm, Lmmse, RobustPca, RobustPcaFromFactors, HybridBeamforming, SpectralBeamforming),
    )
}


def find_solver(name: str, more: Iterable[type[Solver]] = ()) -> type[Solver]:
    """The solver class of this name, among `more` and the built-in ones; raises InputError where there is none."""
    known = {**SOLVERS, **{s.__name__: s for s in more}}
    if name not in known:
        raise InputError("solver", f"unknown name {name!r}", ", ".join(sorted(known)), "Pass your own solver class.")
    return known[name]


__all__ = [
    "SOLVERS",
    "BoxAdmm",
    "Fista",
    "GramBoxAdmm",
    "HybridBeamforming",
    "Ista",
    "Lista",
    "Lmmse",
    "RobustPca",
    "RobustPcaFromFactors",
    "SpectralBeamforming",
    "SynthesisFista",
    "SynthesisIsta",
    "SynthesisLista",
    "find_solver",
]
