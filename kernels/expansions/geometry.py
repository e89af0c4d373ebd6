"""The arithmetic of windows that move over an axis: where they start, and what must lie around the axis for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unfoldc.kernels.expansions.table import Call


@dataclass(frozen=True)
class Geometry:
    """For each spatial axis: the window, its steps, the padding asked for, and how many places it has.

    `after` is what ONNX's pads say, `needed` what the last window reads beyond the end.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    needed: tuple[int, ...]
    out: tuple[int, ...]


def whole(call: Call, name: str, rank: int, default: int, least: int) -> tuple[int, ...]:
    """The attribute as `rank` integers; raises ValueError for another number of them, or smaller ones."""
    values = tuple(int(v) for v in call.attributes.get(name) or [default] * rank)
    if len(values) != rank or min(values, default=least) < least:
        raise ValueError(f"{name} {list(values)} for {rank} axes, each at least {least}")
    return values


def extents(kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """The length that each window spans."""
    return [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]


def automatic(call: Call) -> str:
    """How the padding is chosen; raises ValueError for a way that ONNX does not define."""
    way = str(call.attributes.get("auto_pad", "NOTSET"))
    if way not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"auto_pad {way!r}")
    return way


def pads_of(call: Call, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The attribute `pads`: what lies before and after each axis."""
    pads = whole(call, "pads", 2 * rank, 0, 0)
    return pads[:rank], pads[rank:]


def geometry(call: Call, sizes: Sequence[int], kernel: Sequence[int]) -> Geometry:
    """The windows of Conv and of the pools over axes of these sizes (ONNX's attributes, ceil_mode among them)."""
    rank, way = len(sizes), automatic(call)
    if len(kernel) != rank or whole(call, "kernel_shape", rank, 0, 0) not in ((0,) * rank, tuple(kernel)):
        raise ValueError(
            f"a window of {list(kernel)} on {rank} axes, kernel_shape {call.attributes.get('kernel_shape')}"
        )
    strides, dilations = whole(call, "strides", rank, 1, 1), whole(call, "dilations", rank, 1, 1)
    spans = extents(kernel, dilations)
    before, after = pads_of(call, rank) if way == "NOTSET" else ((0,) * rank, (0,) * rank)
    if way.startswith("SAME"):
        total = [max((-(-n // s) - 1) * s + e - n, 0) for n, s, e in zip(sizes, strides, spans, strict=True)]
        less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        before, after = (less, more) if way == "SAME_UPPER" else (more, less)
    out: list[int] = []
    for n, e, s, b, a in zip(sizes, spans, strides, before, after, strict=True):
        free = n + b + a - e
        count = free // s + 1
        # A window that would start behind the padding's beginning at the end does not count.
        if way == "NOTSET" and call.attributes.get("ceil_mode", 0) and free % s and count * s < n + b:
            count += 1
        if free < 0 or count < 1:
            raise ValueError(f"a window that spans {e} on an axis of {n} with {b + a} around it")
        out.append(count)
    needed = tuple(
        max((o - 1) * s + e - n - b, 0) for o, s, e, n, b in zip(out, strides, spans, sizes, before, strict=True)
    )
    return Geometry(tuple(kernel), strides, dilations, tuple(before), tuple(after), needed, tuple(out))
