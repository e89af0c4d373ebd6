"""TopK, and with it sorting: the places of the greatest elements, then the elements there."""

from __future__ import annotations

from unfoldc.kernels.expansions.splits import given
from unfoldc.kernels.expansions.table import Call, Maker, axis_of, expands


@expands("TopK")
def top_k(maker: Maker, call: Call) -> tuple[str, ...]:
    """The k greatest (or least) elements along the axis and their places, best first also where any order would do.

    NaN counts as the greatest number, as in PyTorch; of equal elements the first comes first.
    """
    x, count = call.inputs[0], given(maker, call, 1)
    shape, k = maker.type(x).shape, int(count.item())
    axis, largest = axis_of(call, len(shape), -1), bool(call.attributes.get("largest", 1))
    if not 1 <= k <= shape[axis]:
        raise ValueError(f"{k} of {shape[axis]} elements")
    if k == 1 and largest:
        places = maker.node("ArgMax", x, axis=axis, keepdims=1)
    else:
        places = maker.node("TopIndices", x, axis=axis, k=k, largest=largest)
    return maker.node("Pick", x, places, axis=axis), places
