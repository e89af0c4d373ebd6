"""Functions of torch by their formulas: as operators of ONNX they would keep their factors in float32.

Each takes what torch's operator of that name takes. torch adds up in another order; the rest is the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else slope x."""
    return torch.where(x > 0, x, x * negative_slope)


def elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    """scale x where x > 0, else scale alpha (exp(input_scale x) - 1)."""
    return torch.where(x > 0, x * scale, torch.expm1(x * input_scale) * (alpha * scale))


def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha (exp(x / alpha) - 1)."""
    return torch.where(x > 0, x, torch.expm1(x / alpha) * alpha)


def selu(x: Tensor) -> Tensor:
    """elu with the two constants of Klambauer et al. 2017."""
    return elu(x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """x Φ(x) with the normal distribution Φ, or with its approximation by tanh."""
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + torch.erf(x * math.sqrt(0.5)))


def hardsigmoid(x: Tensor) -> Tensor:
    """min(max(x + 3, 0), 6) / 6."""
    return torch.clamp(x + 3, 0, 6) / 6


def hardswish(x: Tensor) -> Tensor:
    """x hardsigmoid(x)."""
    return x * torch.clamp(x + 3, 0, 6) / 6


def addmm(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta x + alpha a b; with beta = 0 whatever x holds, NaN included."""
    product = (a @ b) * alpha
    return product if beta == 0 else x * beta + product


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale q kᵀ + mask) v; queries (..., l, e), keys and values (..., s, e)."""
    scores = (query @ key.transpose(-2, -1)) * (scale if scale is not None else 1 / math.sqrt(query.shape[-1]))
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        hidden = attn_mask.dtype == torch.bool
        scores = torch.where(attn_mask, scores, -math.inf) if hidden else scores + attn_mask
    return torch.softmax(scores, -1) @ value


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """(x - mean) / √(variance + eps) over the last axes, times weight, plus bias."""
    y = _standard(x, list(range(-len(normalized_shape), 0)), eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / √(mean of squares + eps) over the last axes, times weight."""
    axes = list(range(-len(normalized_shape), 0))
    y = x / torch.sqrt((x * x).mean(axes, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps))
    return y if weight is None else y * weight


def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """(x - mean) / √(variance + eps) over groups of channels; x (batch, channels, ...)."""
    y = _standard(x.reshape(x.shape[0], num_groups, -1), [-1], eps).reshape(x.shape)
    return _scaled(y, weight, bias)


def instance_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:
    """(x - mean) / √(variance + eps) for each channel of each problem; x (batch, channels, ...)."""
    if use_input_stats or running_mean is None or running_var is None:
        return _scaled(_standard(x, list(range(2, x.ndim)), eps), weight, bias)
    return batch_norm(x, weight, bias, running_mean, running_var, False, momentum, eps)


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:
    """(x - mean) / √(variance + eps) for each channel, with the means and variances from training."""
    if training or running_mean is None or running_var is None:
        return _scaled(_standard(x, [0, *range(2, x.ndim)], eps), weight, bias)
    y = (x - _channels(running_mean, x)) / torch.sqrt(_channels(running_var, x) + eps)
    return _scaled(y, weight, bias)


def native_batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The operator to which torch reduces `batch_norm` in evaluation mode; its other two results are empty."""
    empty = x.new_zeros(0)
    return batch_norm(x, weight, bias, running_mean, running_var, False, momentum, eps), empty, empty


def _standard(x: Tensor, axes: list[int], eps: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(axes, keepdim=True) + eps)


def _scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * _channels(weight, x)
    return x if bias is None else x + _channels(bias, x)


def _channels(vector: Tensor, x: Tensor) -> Tensor:
    return vector.reshape(-1, *(1 for _ in range(x.ndim - 2)))
