"""The lengths that a user binds by name, compared with those that the model's inputs leave open."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path

from unfoldc.errors import InputError


def check_dimensions(path: str | Path, dimensions: Collection[str]) -> None:
    """Raises InputError for a name that no input of the model gives to a length, ModelError for a damaged file."""
    if not dimensions:
        return
    from unfoldc.kernels.reading.onnx_file import read_model

    graph = read_model(Path(path)).graph
    constants = {t.name for t in graph.initializer}  # old exporters list the weights among the inputs
    lengths = [d.dim_param for v in graph.input if v.name not in constants for d in v.type.tensor_type.shape.dim]
    names = list(dict.fromkeys(filter(None, lengths)))
    without_case = {name.lower(): name for name in names}
    for name in dimensions:
        if name in names:
            continue
        near = difflib.get_close_matches(name.lower(), without_case, n=1)
        advice = "Choose one of these names." if names else "Leave the option out."
        raise InputError(
            f"{path}: dimension {name!r}",
            "no input of the model has an open length of this name",
            ", ".join(names) or "none, because its inputs name no open length",
            f"Did you mean {without_case[near[0]]!r}?" if near else advice,
        )
