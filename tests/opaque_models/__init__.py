"""Solvers with operations that no table of ours holds, by name: MODELS[name](K) is one of K iterations."""

from __future__ import annotations

from opaque_models.graph import BATCH, OpaqueGraph, answers, problems
from opaque_models.makers import MODELS, one_iteration, traced

__all__ = ["BATCH", "MODELS", "OpaqueGraph", "answers", "one_iteration", "problems", "traced"]
