"""Cases of activations, further mathematics, normalisations, softmax, Einsum and recurrent networks."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from operator_cases.cases import CASES, SPECIAL, OperatorCase, add, numbers, shaped, whole

# ONNX Runtime swallows NaN in some activations, the reference evaluator overflows in others: those see finite numbers.
_FINITE = SPECIAL[np.abs(SPECIAL) < 10]
_ANGLES = np.concatenate([numbers(6), np.array([0, 0.7, -1.5, 3, -20], np.float32)])
_UNIT = np.array([0, 1, -1, 0.5, -0.5, 1e-4, -0.999, 0.19, 0.21, 2, np.nan], np.float32)
_ALL = np.concatenate([SPECIAL, _ANGLES])
_TRUTH = np.array([True, False])

for _name in ("Atan", "Sinh", "Cosh", "Asinh"):
    add(_name, _ALL)
    add(_name, numbers(2, 3).astype(np.float64))
for _name in ("Asin", "Acos", "Atanh"):
    add(_name, _UNIT)
    add(_name, np.tanh(numbers(5)).astype(np.float64))
add("Acosh", np.array([1, 1.0001, 1.4, 2, 50, 3e38, np.inf, 0.5, -3, np.nan], np.float32))
add("Acosh", np.cosh(numbers(5)).astype(np.float64))
add("Tan", _ANGLES)
add("Tan", numbers(2, 3).astype(np.float64))

for _name in ("Elu", "Celu"):
    add(_name, _ALL)
    add(_name, numbers(2, 3), alpha=0.3)
add("Selu", _FINITE)
add("Selu", numbers(4).astype(np.float64), alpha=0.7, gamma=2.0)
add("HardSigmoid", SPECIAL)
add("HardSigmoid", numbers(2, 3), alpha=1.5, beta=-0.25)
add("HardSwish", numbers(2, 5) * 4)
add("HardSwish", numbers(3).astype(np.float64))
add("Swish", numbers(2, 5) * 4, opset=24)
add("Swish", numbers(3).astype(np.float64), opset=24, alpha=1.7)
add("Mish", np.concatenate([_FINITE, _ANGLES]))
add("Mish", numbers(3).astype(np.float64))
for _kind in ("none", "tanh"):
    add("Gelu", _ANGLES, approximate=_kind)
    add("Gelu", numbers(2, 3).astype(np.float64), approximate=_kind)
add("ThresholdedRelu", SPECIAL[:-2])
add("ThresholdedRelu", numbers(2, 3), alpha=-0.2)
add("Softsign", SPECIAL[:8])
add("Softsign", numbers(2, 3).astype(np.float64))
add("PRelu", SPECIAL, np.float32(0.25))
add("PRelu", numbers(2, 3, 4), numbers(3, 1))
add("Xor", _TRUTH, _TRUTH[:, None])
add("IsInf", SPECIAL)
add("IsInf", SPECIAL, detect_negative=0)
add("IsInf", SPECIAL.astype(np.float64), detect_positive=0)
_SIGNED = np.array([7, -7, 5, -5, 0, 6], np.int64)
_DIVISORS = np.array([3, -3, 1, -1], np.int64)[:, None]
add("Mod", _SIGNED, _DIVISORS)
add("Mod", _SIGNED.astype(np.int32), _DIVISORS.astype(np.int32), fmod=1)
add("Mod", _SIGNED * np.float32(1.37), _DIVISORS * np.float32(0.77), fmod=1)
add("Mod", SPECIAL[:6] * 1e6, np.float32(1.1), fmod=1)
add("Mod", numbers(4).astype(np.float64) * 9, np.float64(-2.5), fmod=1)

shaped("Trilu", numbers(3, 4))
shaped("Trilu", numbers(2, 4, 3), np.asarray(-1), upper=0)
shaped("Trilu", numbers(4, 3), np.asarray(1))
shaped("Trilu", np.array([[1, 2], [3, 4]]), np.asarray(-(2**40)), upper=0)
add("EyeLike", numbers(3, 4))
add("EyeLike", numbers(3, 3), k=-1, dtype=TensorProto.INT64)
CASES.append(OperatorCase("OneHot", {0: whole(0, 2, -1, 1), 2: numbers(2)}, {1: np.asarray(3)}))
CASES.append(OperatorCase("OneHot", {0: np.array([[0, 1], [1, 3]]), 2: numbers(2)}, {1: np.asarray(4)}, {"axis": 1}))
CASES.append(OperatorCase("OneHot", {0: whole(1, 0), 2: numbers(2)}, {1: np.asarray(2)}, {"axis": 0}))

_ROWS = np.array([[1, 2, 3], [80, -1e3, 79], [-np.inf, 0, 1], [1, np.nan, 2]], np.float32)
_EDGES = np.array([[-np.inf, -np.inf], [np.inf, 1], [0, -np.inf], [3e38, 3e38]], np.float32)
for _name in ("Softmax", "LogSoftmax"):
    add(_name, _ROWS, oracle="onnxruntime")
    add(_name, _EDGES)
    add(_name, numbers(2, 3, 4), axis=1)
    add(_name, numbers(2, 3).astype(np.float64), axis=-2, opset=13)
add("Hardmax", np.array([[1, 3, 3], [2, 1, 2]], np.float32))
add("Hardmax", numbers(2, 3, 4), axis=1)
add("Hardmax", np.array([[1, np.nan, 3]], np.float32))
for _name in ("ReduceLogSum", "ReduceLogSumExp"):
    shaped(_name, np.abs(numbers(2, 3, 4)), whole(1))
    shaped(_name, np.abs(numbers(2, 3, 4)), whole(-1, 0), keepdims=0)
    shaped(_name, np.abs(numbers(2, 3)))
    shaped(_name, np.abs(numbers(2, 3, 4)), opset=13, axes=[-1])
shaped("ReduceLogSumExp", _ROWS, whole(1), oracle="onnxruntime")
shaped("ReduceLogSumExp", _EDGES, whole(1), keepdims=0, oracle="onnxruntime")
shaped("ReduceLogSumExp", numbers(2, 3).astype(np.float64) * 1e3, whole(0), oracle="onnxruntime")
add("Mean", numbers(3), numbers(2, 1), np.float32(0.25), oracle="onnxruntime")
add("Mean", numbers(2, 2))

_CHANNELS = (np.abs(numbers(3)), numbers(3), numbers(3), np.abs(numbers(3)))
add("BatchNormalization", numbers(2, 3, 4), *_CHANNELS)
add("BatchNormalization", numbers(2, 3, 2, 2), *_CHANNELS, epsilon=0.1, opset=14)
add("BatchNormalization", numbers(2, 3), *_CHANNELS, opset=13, oracle="onnxruntime")
add("InstanceNormalization", numbers(2, 3, 4), numbers(3), numbers(3))
add("GroupNormalization", numbers(2, 6, 4), numbers(6), numbers(6), num_groups=3, opset=21)
add("GroupNormalization", numbers(2, 4, 2, 3), numbers(4), numbers(4), num_groups=2, epsilon=0.1, opset=21)
add("GroupNormalization", numbers(2, 6, 4), numbers(3), numbers(3), num_groups=3, opset=18)
add("LayerNormalization", numbers(2, 3, 4), numbers(4), numbers(4))
add("LayerNormalization", numbers(2, 3, 4), numbers(3, 4), axis=1, epsilon=0.1, results=3)
add("LayerNormalization", numbers(2, 3).astype(np.float64), numbers(3).astype(np.float64))
add("RMSNormalization", numbers(2, 3, 4), numbers(4), opset=23)
add("RMSNormalization", numbers(2, 3, 4), numbers(3, 4), axis=-2, epsilon=0.1, opset=23)
_VECTORS = np.array([[3, 4, 0], [0, 0, 0], [1, -1, 2]], np.float32)
add("LpNormalization", _VECTORS, opset=22)
add("LpNormalization", np.abs(_VECTORS), axis=0, p=1)
add("MeanVarianceNormalization", numbers(2, 3, 2, 2))
add("MeanVarianceNormalization", numbers(2, 3, 4), axes=[1, -1], oracle="onnxruntime")

for _equation, _shapes in {
    "ij,jk->ik": ((2, 3), (3, 4)),
    "bij,bj->bi": ((2, 3, 4), (2, 4)),
    "bii->bi": ((2, 3, 3),),
    "...ij,...kj->...ik": ((2, 3, 4), (5, 4)),
    "i,ij,j": ((3,), (3, 4), (4,)),
}.items():
    add("Einsum", *(numbers(*_shape) for _shape in _shapes), equation=_equation)


def _recurrent(
    operator: str,
    gates: int,
    states: int,
    extent: tuple[int, int, int, int] = (3, 2, 4, 3),
    direction: str = "forward",
    bias: bool = True,
    start: bool = True,
    peephole: bool = False,
    layout: int = 0,
    **attributes: object,
) -> None:
    """A case with weights at run time: length, batch, inputs and hidden elements as in `extent`."""
    length, batch, n, hidden = extent
    d = 2 if direction == "bidirectional" else 1
    inputs = [numbers(length, batch, n), numbers(d, gates * hidden, n), numbers(d, gates * hidden, hidden)]
    inputs = [np.swapaxes(inputs[0], 0, 1) if layout else inputs[0], *inputs[1:]]
    initial = (batch, d, hidden) if layout else (d, batch, hidden)
    rest = [numbers(d, 2 * gates * hidden) if bias else None, None]
    rest += [numbers(*initial) if start else None for _ in range(states)]
    rest += [numbers(d, 3 * hidden)] if peephole else []
    while rest and rest[-1] is None:
        rest.pop()
    if layout:
        attributes["layout"] = layout
    add(operator, *inputs, *rest, hidden_size=hidden, direction=direction, results=1 + states, **attributes)  # type: ignore[arg-type]


for _operator, _gates, _states in (("LSTM", 4, 2), ("GRU", 3, 1), ("RNN", 1, 1)):
    _recurrent(_operator, _gates, _states)
    _recurrent(_operator, _gates, _states, direction="reverse", bias=False)
    _recurrent(_operator, _gates, _states, direction="bidirectional", start=False, opset=14)
    _recurrent(_operator, _gates, _states, (1, 1, 2, 5), start=False, bias=False)
    _recurrent(_operator, _gates, _states, (6, 2, 1, 2), layout=1)
_recurrent("LSTM", 4, 2, peephole=True)
_recurrent("LSTM", 4, 2, peephole=True, start=False, bias=False)
_recurrent("GRU", 3, 1, linear_before_reset=1)
_recurrent("GRU", 3, 1, linear_before_reset=1, start=False)
_recurrent("GRU", 3, 1, linear_before_reset=1, bias=False, direction="bidirectional")
_recurrent("RNN", 1, 1, activations=["Relu"], oracle="onnxruntime")
_recurrent("LSTM", 4, 2, activations=["Sigmoid", "Softsign", "Tanh"], oracle="onnxruntime")

_QKV = (numbers(2, 4, 3, 5), numbers(2, 4, 6, 5), numbers(2, 4, 6, 2))
_FEW = (numbers(2, 4, 3, 5), numbers(2, 2, 6, 5), numbers(2, 2, 6, 2))
_MASK = np.array([[1, 0, 1, 1, 0, 1], [1, 1, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]], bool)
add("Attention", *_QKV, opset=23)
add("Attention", *_QKV, opset=23, is_causal=1, softcap=0.5, scale=0.3)
add("Attention", *_QKV, numbers(3, 6), opset=24, softcap=2.0)
add("Attention", *_QKV, _MASK, opset=23)
add("Attention", *_FEW, opset=23)
add("Attention", *_FEW, numbers(4, 3, 6), opset=23)
add("Attention", *_FEW, numbers(2, 1, 3, 6), opset=23)
add("Attention", numbers(2, 3, 8), numbers(2, 5, 4), numbers(2, 5, 6), opset=23, q_num_heads=4, kv_num_heads=2)
