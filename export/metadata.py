"""What the exported file says of itself, as JSON under the key `unfoldc` of the model's metadata."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import torch
from torch import nn

from unfoldc.errors import ExportError
from unfoldc.export.labels import Labels
from unfoldc.export.listing import Listing
from unfoldc.export.names import Names
from unfoldc.export.states import State

FORMAT = 1
_OURS = ("format", "iterations", "states", "state_names", "iterates", "parameters")


def make_metadata(
    listing: Listing,
    labels: Labels,
    names: Names,
    states: Sequence[State],
    iterates: Mapping[str, Sequence[str]],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """The whole entry. `given` is what the module or the caller adds, such as `errors` after each iteration."""
    rows = [[names.values[s.values[k]] if s.values[k] else "" for s in states] for k in range(labels.count)]
    versions = {"unfoldc": sys.modules["unfoldc"].__version__, "torch": torch.__version__, "onnx": onnx.__version__}
    return {
        "errors": [],
        **given,
        "format": FORMAT,
        "iterations": labels.count,
        "states": rows,
        "state_names": [s.name for s in states],
        "iterates": {name: list(entries) for name, entries in iterates.items()},
        "parameters": parameter_table(listing, labels, names),
        "versions": {**versions, **given.get("versions", {})},
    }


def parameter_table(listing: Listing, labels: Labels, names: Names) -> dict[str, dict[str, Any]]:
    """The module's parameters and buffers: shape, and whether several iterations read the same one."""
    readers: dict[str, set[int]] = {name: set() for name in listing.parameters}
    for op, label in zip(listing.ops, labels.of, strict=True):
        for r in op.reads:
            if r in readers and 0 <= label < labels.end:
                readers[r].add(label)
    return {
        names.values[name]: {"shape": list(listing.constants[name].dims), "tied": len(readers[name]) > 1}
        for name in sorted(readers)
    }


def given_metadata(module: nn.Module, further: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the module's attribute `unfoldc_metadata` and the caller add, the latter on top.

    Raises:
        ExportError: it is no dictionary, holds something that is not JSON, or uses a key that the exporter fills in.
    """
    own = getattr(module, "unfoldc_metadata", {})
    try:
        given = {**own, **(further or {})}
        json.dumps(given, allow_nan=False)
        reserved = [key for key in given if key in _OURS]
        wrong = f"the reserved key {reserved[0]!r}" if reserved else ""
        if not isinstance(given.get("versions", {}), Mapping):
            wrong = "an entry 'versions' that is no dictionary"
    except (TypeError, ValueError) as error:
        wrong = f"something that JSON cannot hold ({error})"
    if wrong:
        raise ExportError(
            "metadata",
            wrong,
            "a dictionary of plain numbers, texts, lists and dictionaries, without NaN and the exporter's own keys",
            "Convert arrays with .tolist(), choose other keys, here and in the module's attribute `unfoldc_metadata`.",
        )
    return given
