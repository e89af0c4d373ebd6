"""What export_onnx wrote into a model about its iterations; advice, never trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import onnx


def read_metadata(model: onnx.ModelProto) -> dict[str, Any]:
    """The entry `unfoldc`; an empty dictionary where it is absent or not understood."""
    for entry in model.metadata_props:
        if entry.key == "unfoldc":
            try:
                found = json.loads(entry.value)
            except (ValueError, RecursionError):
                return {}
            return found if isinstance(found, dict) else {}
    return {}


def without_iterates(outputs: Sequence[str], metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The answers among a graph's outputs: those that the metadata call the iterates of another output are left out.

    An iterate is named `<output>.iterate.<k>`, so that metadata cannot take an answer away.
    """
    listed = metadata.get("iterates")
    dropped: set[str] = set()
    for output, names in listed.items() if isinstance(listed, dict) else ():
        if output in outputs and isinstance(names, list):
            dropped.update(n for n in names if isinstance(n, str) and n.startswith(f"{output}.iterate."))
    return tuple(name for name in outputs if name not in dropped)
