"""Constants with equal content become one: tied weights are stored once, and the layers that use them stay alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unfoldc.kernels.program import Node, Program


def share_weights(program: Program) -> Program:
    """Keeps the first of equal constants (same type, shape and bytes) and renames the uses of the others."""
    first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    rename: dict[str, str] = {}
    kept: dict[str, np.ndarray] = {}
    for name, value in program.constants.items():
        key = (str(value.dtype), value.shape, np.ascontiguousarray(value).tobytes())
        rename[name] = first.setdefault(key, name)
        if rename[name] == name:
            kept[name] = value

    def node(n: Node) -> Node:
        return replace(n, inputs=tuple(rename.get(i, i) for i in n.inputs))

    return replace(
        program,
        constants=kept,
        begin=tuple(map(node, program.begin)),
        segments=tuple(replace(s, nodes=tuple(map(node, s.nodes))) for s in program.segments),
        end=tuple(map(node, program.end)),
        outputs=tuple(rename.get(o, o) for o in program.outputs),
    )
