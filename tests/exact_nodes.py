"""One node of exact linear algebra as a model."""

from __future__ import annotations

from typing import Any

import onnx

OURS = "unfoldc"


def one_node(g: Any, operator: str, n: int, domain: str = OURS) -> onnx.ModelProto:
    inputs = [g.input("A", "batch", n, n)]
    if operator.startswith("Solve"):
        inputs.append(g.input("B", "batch", n, 2))
    return g.model(g(operator, *inputs, domain=domain))  # type: ignore[no-any-return]
