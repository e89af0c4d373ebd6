"""Unfolded solvers: declare a classical method, learn its values over K iterations, save and export it."""

if __name__ != "unfoldc.unfold_train":
    raise ImportError("import this package as unfoldc.unfold_train; the folder is not a package of its own")

from unfoldc.unfold_train.approximating import approximate, call_sites, exact
from unfoldc.unfold_train.approximations import Answer, Approximation
from unfoldc.unfold_train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from unfoldc.unfold_train.compensating import Compensation, compensate
from unfoldc.unfold_train.losses import Loss
from unfoldc.unfold_train.multiply_adds import MultiplyAdds, count_multiply_adds
from unfoldc.unfold_train.problems import Problems
from unfoldc.unfold_train.proximal import soft_threshold
from unfoldc.unfold_train.solver import Solver
from unfoldc.unfold_train.solvers import (
    Fista,
    Ista,
    Lista,
    SynthesisFista,
    SynthesisIsta,
    SynthesisLista,
    find_solver,
)
from unfoldc.unfold_train.train import Outcome, Settings, Status, Trainer
from unfoldc.unfold_train.unfolded import Unfolded
from unfoldc.unfold_train.unfolding import unfold
from unfoldc.unfold_train.values import Derived, Hyper, Input, Objective, View

__all__ = [
    "Answer",
    "Approximation",
    "Checkpoint",
    "Compensation",
    "Derived",
    "Fista",
    "Hyper",
    "Input",
    "Ista",
    "Lista",
    "Loss",
    "MultiplyAdds",
    "Objective",
    "Outcome",
    "Problems",
    "Settings",
    "Solver",
    "Status",
    "SynthesisFista",
    "SynthesisIsta",
    "SynthesisLista",
    "Trainer",
    "Unfolded",
    "View",
    "approximate",
    "call_sites",
    "compensate",
    "count_multiply_adds",
    "exact",
    "find_solver",
    "load_checkpoint",
    "save_checkpoint",
    "soft_threshold",
    "unfold",
]
