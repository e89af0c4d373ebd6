"""Resize: along each axis a choice of elements, or sums of few with fixed weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from unfoldc.kernels.expansions.padding import laid_out
from unfoldc.kernels.expansions.table import Call, Maker, constant, expands

_MOST_TAPS = 4
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True)
class _Axis:
    """An axis of `n` elements that becomes one of `out`; `scale` is what is meant, out / n or near it."""

    n: int
    out: int
    scale: float
    exact: bool

    def coordinates(self, mode: str) -> np.ndarray:
        """Where each result lies among the elements; raises ValueError for a mode that is not supported."""
        i = np.arange(self.out, dtype=np.float64)
        match mode:
            case "asymmetric":
                return self.back(i)
            case "half_pixel":
                return self.back(i + 0.5) - 0.5
            case "pytorch_half_pixel":
                return self.back(i + 0.5) - 0.5 if self.out > 1 else i * 0
            case "half_pixel_symmetric":
                offset = self.n / 2 * (1 - self.out / (self.n * self.scale))
                return offset + self.back(i + 0.5) - 0.5
            case "align_corners":
                return i * (self.n - 1) / (self.out - 1) if self.out > 1 else i * 0
        raise ValueError(f"coordinate_transformation_mode {mode!r}")

    def back(self, i: np.ndarray) -> np.ndarray:
        """i / scale; exact where the quotient is whole, so that rounding it does not fall to the wrong side."""
        return i * self.n / self.out if self.exact else i / self.scale


@expands("Resize")
def resize(maker: Maker, call: Call) -> tuple[str, ...]:
    """Nearest elements, linear or cubic interpolation, one axis after the other."""
    x, attributes = call.inputs[0], call.attributes
    mode = str(attributes.get("mode", "nearest"))
    coordinates = str(attributes.get("coordinate_transformation_mode", "half_pixel"))
    if mode not in ("nearest", "linear", "cubic"):
        raise ValueError(f"mode {mode!r}")
    chosen = False
    for position, axis in _axes(maker, call).items():
        # An axis that keeps its length may still be moved, but not by what is exact.
        place = axis.coordinates(coordinates)
        if axis.n == axis.out and np.array_equal(place, np.arange(axis.n)):
            continue
        if mode == "nearest":
            table = _nearest(place.astype(np.float32), str(attributes.get("nearest_mode", _NEAREST[0])))
            table = np.clip(table, 0, axis.n - 1).astype(np.int32)
            x, chosen = maker.node("Gather", x, maker.tensor(table), axis=position), True
        else:
            stretch = max(1.0, 1 / axis.scale) if attributes.get("antialias", 0) else 1.0
            outside = bool(attributes.get("exclude_outside", 0))
            a = float(attributes.get("cubic_coeff_a", -0.75))
            x = _mixed(maker, x, position, _weights(place, axis.n, mode, a, stretch, outside))
    return (laid_out(maker, x) if chosen else x,)


def _axes(maker: Maker, call: Call) -> dict[int, _Axis]:
    """The axes that are resized; raises ValueError unless scales or sizes are constant and fit."""
    shape, attributes = maker.type(call.inputs[0]).shape, call.attributes
    scales, sizes = constant(maker, call, 2), constant(maker, call, 3)
    scales = None if scales is None or not np.size(scales) else np.ravel(scales)
    numbers = [int(a) for a in attributes.get("axes") or range(len(shape))]
    given = scales if sizes is None else np.ravel(sizes)
    if given is None or len(given) != len(numbers) or any(not -len(shape) <= a < len(shape) for a in numbers):
        raise ValueError(f"scales {scales} or sizes {sizes} for the axes {numbers}")
    if np.min(given, initial=1) <= 0:
        raise ValueError(f"a size or scale of {np.min(given)}")
    numbers = [a % len(shape) for a in numbers]
    if sizes is None:
        lengths = [int(math.floor(np.float32(shape[a]) * s)) for a, s in zip(numbers, given, strict=True)]
        found = (_Axis(shape[a], o, float(s), False) for a, o, s in zip(numbers, lengths, given, strict=True))
        return dict(zip(numbers, found, strict=True))
    wanted = [int(n) for n in given]
    policy = str(attributes.get("keep_aspect_ratio_policy", "stretch"))
    if policy == "stretch":
        return {a: _Axis(shape[a], o, o / shape[a], True) for a, o in zip(numbers, wanted, strict=True)}
    if policy not in ("not_larger", "not_smaller"):
        raise ValueError(f"keep_aspect_ratio_policy {policy!r}")
    ratios = [o / shape[a] for a, o in zip(numbers, wanted, strict=True)]
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return {a: _Axis(shape[a], int(math.floor(ratio * shape[a] + 0.5)), ratio, False) for a in numbers}


def _nearest(place: np.ndarray, mode: str) -> np.ndarray:
    if mode not in _NEAREST:
        raise ValueError(f"nearest_mode {mode!r}, known are {', '.join(_NEAREST)}")
    half = np.float32(0.5)
    match mode:
        case "floor":
            return np.asarray(np.floor(place))
        case "ceil":
            return np.asarray(np.ceil(place))
        case "round_prefer_ceil":
            return np.asarray(np.floor(place + half))
    return np.asarray(np.ceil(place - half))


def _weights(place: np.ndarray, n: int, mode: str, a: float, stretch: float, exclude: bool) -> np.ndarray:
    """The matrix (out, n) of an interpolation; what would lie outside is the element at the end, or left out."""
    reach = int(math.ceil((1 if mode == "linear" else 2) * stretch))
    taps = np.floor(place)[:, None] + np.arange(-reach, reach + 2)
    distance = np.abs(place[:, None] - taps) / stretch
    weights = np.maximum(1 - distance, 0) if mode == "linear" else _cubic(distance, a)
    if exclude:
        weights = np.where((taps >= 0) & (taps < n), weights, 0)
    if exclude or stretch > 1:
        weights = weights / weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((len(place), n))
    np.add.at(matrix, (np.arange(len(place))[:, None], np.clip(taps, 0, n - 1).astype(np.int64)), weights)
    return matrix


def _cubic(d: np.ndarray, a: float) -> np.ndarray:
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _mixed(maker: Maker, x: str, axis: int, matrix: np.ndarray) -> str:
    """The product with a matrix (out, n) along an axis: few elements with weights each, or all of them."""
    t = maker.type(x)
    count = int(np.max(np.count_nonzero(matrix, axis=1)))
    if count > _MOST_TAPS:
        order = [*(a for a in range(len(t.shape)) if a != axis), axis]
        y = maker.node("Transpose", x, perm=order)
        y = maker.node("MatMul", y, maker.tensor(matrix.T.astype(t.dtype)))
        return maker.node("Transpose", y, perm=[order.index(a) for a in range(len(order))])
    # The largest first; one that is missing reads the first again, with weight 0.
    order_by_weight = np.argsort(matrix == 0, axis=1, kind="stable")[:, :count]
    weights = np.take_along_axis(matrix, order_by_weight, axis=1)
    table = np.where(weights != 0, order_by_weight, order_by_weight[:, :1]).astype(np.int32)
    terms = []
    for k in range(count):
        shown = maker.node("Gather", x, maker.tensor(table[:, k].copy()), axis=axis)
        weight = weights[:, k].astype(t.dtype).reshape(-1, *[1] * (len(t.shape) - axis - 1))
        terms.append(maker.node("Mul", shown, maker.tensor(weight)) if (weight != 1).any() else shown)
    return maker.node("Sum", *terms)
