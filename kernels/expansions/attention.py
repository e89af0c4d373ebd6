"""Attention: softmax(scale Q K^T + mask) V for each head."""

from __future__ import annotations

import math

import numpy as np

from unfoldc.kernels.expansions.pieces import reduced, reshaped, scalar, transposed, unsqueezed
from unfoldc.kernels.expansions.table import Call, Maker, expands


@expands("Attention")
def attention(maker: Maker, call: Call) -> tuple[str, ...]:
    """Queries, keys and values as (batch, heads, length, size), or (batch, length, heads size) with counts of heads."""
    if any(call.input(i) for i in range(4, 7)) or any(call.wants(i) for i in range(1, len(call.outputs))):
        raise ValueError("keys and values of the past, or results beside the first")
    if any(call.attributes.get(f"{side}_window_size", -1) >= 0 for side in ("left", "right")):
        raise ValueError("a window of keys")
    flat = len(maker.type(call.inputs[0]).shape) == 3
    q, k, v = (_heads(maker, call, i) for i in range(3))
    many, few = (maker.type(name).shape[1] for name in (q, k))
    if many % few:
        raise ValueError(f"{many} heads of queries for {few} of keys")
    if many != few:  # each head of keys serves a group of queries: an axis of its own
        q = reshaped(maker, q, [maker.type(q).shape[0], few, many // few, *maker.type(q).shape[2:]])
        k, v = (unsqueezed(maker, name, [2]) for name in (k, v))
    y = maker.node("MatMul", _weights(maker, call, q, k, many != few), v)
    batch, *middle, length, size = maker.type(y).shape
    heads = math.prod(middle)
    y = reshaped(maker, y, [batch, heads, length, size])
    if flat:
        y = reshaped(maker, transposed(maker, y, [0, 2, 1, 3]), [batch, length, heads * size])
    return (y,)


def _heads(maker: Maker, call: Call, i: int) -> str:
    """Input i as (batch, heads, length, size)."""
    name = call.inputs[i]
    shape = maker.type(name).shape
    if len(shape) == 4:
        return name
    heads = int(call.attributes.get("q_num_heads" if i == 0 else "kv_num_heads", 0))
    if len(shape) != 3 or heads < 1 or shape[2] % heads:
        raise ValueError(f"{heads} heads in shape {list(shape)}")
    split = reshaped(maker, name, [shape[0], shape[1], heads, shape[2] // heads])
    return transposed(maker, split, [0, 2, 1, 3])


def _weights(maker: Maker, call: Call, q: str, k: str, grouped: bool) -> str:
    """The softmax of the scaled, capped and masked products."""
    size, rank = maker.type(q).shape[-1], len(maker.type(q).shape)
    scale = call.attributes.get("scale", 0.0) or 1 / math.sqrt(size)
    turned = transposed(maker, k, [*range(rank - 2), rank - 1, rank - 2])
    scores = maker.node("MatMul", maker.node("Mul", q, scalar(maker, scale, q)), turned)
    cap = call.attributes.get("softcap", 0.0)
    scores = _capped(maker, scores, cap) if cap else scores
    masked = _masked(maker, call, scores, grouped)
    return maker.node("Softmax", scores, axis=-1) if masked == scores else _masked_softmax(maker, masked)


def _masked_softmax(maker: Maker, scores: str) -> str:
    """The softmax over the last axis, 0 where everything is masked."""
    last = [len(maker.type(scores).shape) - 1]
    zero, one, none = (scalar(maker, value, scores) for value in (0, 1, -math.inf))
    top = reduced(maker, "ReduceMax", scores, last)
    top = maker.node("Where", maker.node("Equal", top, none), zero, top)
    e = maker.node("Exp", maker.node("Sub", scores, top))
    total = reduced(maker, "ReduceSum", e, last)
    return maker.node("Div", e, maker.node("Where", maker.node("Equal", total, zero), one, total))


def _capped(maker: Maker, scores: str, cap: float) -> str:
    bound = scalar(maker, cap, scores)
    return maker.node("Mul", maker.node("Tanh", maker.node("Div", scores, bound)), bound)


def _masked(maker: Maker, call: Call, scores: str, grouped: bool) -> str:
    """With the mask added, or -inf where a mask of booleans is false or a key comes after its query."""
    *_, rows, columns = maker.type(scores).shape
    none = scalar(maker, -math.inf, scores)
    if call.attributes.get("is_causal", 0):
        allowed = maker.tensor(np.tri(rows, columns, dtype=bool))
        scores = maker.node("Where", allowed, scores, none)
    mask = call.input(3)
    if not mask:
        return scores
    shape = maker.type(mask).shape
    if grouped and len(shape) > 2:
        heads = len(shape) - 3
        if shape[heads] == 1:
            mask = unsqueezed(maker, mask, [heads])
        else:
            mask = reshaped(maker, mask, [*shape[:heads], *maker.type(scores).shape[1:3], *shape[-2:]])
    if maker.type(mask).dtype == "bool":
        return maker.node("Where", mask, scores, none)
    return maker.node("Add", scores, mask)
