"""Cases of padding, convolutions, pools and resizing."""

from __future__ import annotations

from typing import Any

import numpy as np

from operator_cases.cases import CASES, SPECIAL, OperatorCase, add, numbers, shaped, whole

# -- Pad -----------------------------------------------------------------------------------------------------------
_half = np.asarray(np.float32(0.5))
shaped("Pad", numbers(2, 3), whole(0, 2, 1, 0))
shaped("Pad", SPECIAL, whole(1, 2), _half, opset=13)
shaped("Pad", numbers(2, 3, 1), whole(1, 0, 3, 0, 2, 0), np.array([0.5], np.float32), opset=13, oracle="onnxruntime")
shaped("Pad", numbers(3, 4), whole(-1, 2, 0, -3), _half, oracle="onnxruntime")
shaped("Pad", numbers(3, 4), whole(-1, -1, 0, -2), oracle="onnxruntime")
shaped("Pad", numbers(3, 4), whole(0, 0, 0, 0))
shaped("Pad", numbers(2, 3, 4), whole(1, 2, 0, 3), _half, whole(-1, 0))
shaped("Pad", np.array([[1, -2], [3, 4]]), whole(1, 0, 0, 2), whole(7)[0])
shaped("Pad", numbers(2, 3), whole(0, 1, 1, 1), opset=23)
CASES.append(OperatorCase("Pad", {0: numbers(2, 3), 2: _half}, {1: whole(1, 1, 0, 2)}))
for _mode in ("edge", "reflect", "wrap"):
    _opset = 19 if _mode == "wrap" else 13
    shaped("Pad", numbers(3, 5), whole(0, 3, 2, 4), opset=_opset, mode=_mode)
    shaped("Pad", numbers(2, 4, 3), whole(2, 1, 1, 2), None, whole(1, -1), mode=_mode)
    shaped("Pad", numbers(2, 4), whole(0, 0, 0, 0), mode=_mode)
    shaped("Pad", numbers(4, 5), whole(-2, -1, -1, -1), mode=_mode, oracle="onnxruntime")
shaped("Pad", numbers(3, 1), whole(0, 2, 0, 1), mode="edge")
shaped("Pad", numbers(3, 4), whole(-1, 2, 1, -1), mode="edge", oracle="onnxruntime")
shaped("Pad", numbers(2, 3), whole(0, 7, 0, 8), mode="wrap", opset=19)

# -- Conv ----------------------------------------------------------------------------------------------------------
add("Conv", numbers(2, 3, 7), numbers(4, 3, 3))
add("Conv", numbers(2, 3, 7), numbers(4, 3, 3), numbers(4), strides=[2], pads=[1, 0])
add("Conv", numbers(1, 2, 5, 6), numbers(3, 2, 3, 2), numbers(3), pads=[1, 0, 2, 1])
add("Conv", numbers(1, 2, 8, 9), numbers(3, 2, 3, 2), strides=[2, 3], dilations=[2, 1], pads=[0, 1, 1, 3])
add("Conv", numbers(2, 4, 5, 5), numbers(6, 2, 3, 3), numbers(6), group=2, pads=[1, 1, 1, 1])
add("Conv", numbers(2, 3, 5, 4), numbers(3, 1, 3, 3), group=3, pads=[1, 1, 1, 1], kernel_shape=[3, 3])
add("Conv", numbers(2, 3, 5, 4), numbers(6, 1, 2, 1), group=3)
add("Conv", numbers(1, 3, 4, 5), numbers(2, 3, 1, 1), numbers(2))
add("Conv", numbers(1, 1, 3, 3), numbers(1, 1, 3, 3))
add("Conv", numbers(1, 2, 3, 4, 5), numbers(3, 2, 2, 2, 3), numbers(3), pads=[1, 0, 1, 0, 1, 1], strides=[1, 2, 1])
add("Conv", numbers(1, 2, 5, 4).astype(np.float64), numbers(2, 2, 2, 2).astype(np.float64))
shaped("Conv", numbers(2, 2, 6), numbers(3, 2, 4), numbers(3), strides=[2])
for _way in ("VALID", "SAME_UPPER", "SAME_LOWER"):
    add("Conv", numbers(1, 2, 7, 6), numbers(3, 2, 4, 3), auto_pad=_way, strides=[2, 1], oracle="onnxruntime")
add("Conv", numbers(1, 2, 7), numbers(3, 2, 2), auto_pad="VALID", dilations=[3])

# -- ConvTranspose: ONNX's reference evaluator lacks dilations and output shapes --------------------------------------
_options: dict[str, Any] = {"oracle": "onnxruntime"}
add("ConvTranspose", numbers(2, 3, 5), numbers(3, 4, 3), **_options)
add("ConvTranspose", numbers(2, 3, 5), numbers(3, 4, 3), numbers(4), pads=[1, 2], **_options)
add("ConvTranspose", numbers(2, 3, 5), numbers(3, 4, 3), numbers(4), strides=[2], output_padding=[1], **_options)
add("ConvTranspose", numbers(1, 2, 3, 4), numbers(2, 3, 3, 2), strides=[2, 3], pads=[1, 0, 1, 1], **_options)
add("ConvTranspose", numbers(1, 2, 3, 4), numbers(2, 1, 2, 2), numbers(1), strides=[2, 2], **_options)
add("ConvTranspose", numbers(1, 2, 3, 4), numbers(2, 1, 4, 4), strides=[2, 2], pads=[1, 1, 1, 1], **_options)
add("ConvTranspose", numbers(1, 2, 3, 4), numbers(2, 1, 1, 2), strides=[3, 3], **_options)
add("ConvTranspose", numbers(1, 2, 4, 3), numbers(2, 2, 3, 2), dilations=[2, 3], pads=[2, 0, 1, 1], **_options)
add("ConvTranspose", numbers(1, 2, 4), numbers(2, 2, 3), dilations=[2], strides=[3], pads=[1, 2], **_options)
add("ConvTranspose", numbers(1, 2, 4), numbers(2, 2, 3), dilations=[2], strides=[2], output_padding=[1], **_options)
add("ConvTranspose", numbers(2, 4, 3, 3), numbers(4, 3, 3, 3), numbers(6), group=2, strides=[2, 2], **_options)
add("ConvTranspose", numbers(2, 3, 4), numbers(3, 1, 3), group=3, strides=[2], pads=[1, 1], **_options)
add("ConvTranspose", numbers(1, 2, 2, 3, 2), numbers(2, 2, 2, 3, 2), numbers(2), strides=[2, 1, 2], **_options)
add("ConvTranspose", numbers(1, 1, 5), numbers(1, 1, 3), strides=[2], pads=[4, 5], **_options)
add("ConvTranspose", numbers(1, 2, 3, 3), numbers(2, 2, 3, 3), strides=[2, 2], output_shape=[6, 7], **_options)
shaped("ConvTranspose", numbers(1, 2, 3), numbers(2, 2, 3), numbers(2), strides=[2], **_options)
for _way in ("VALID", "SAME_UPPER", "SAME_LOWER"):
    add("ConvTranspose", numbers(1, 2, 4), numbers(2, 1, 4), strides=[3], auto_pad=_way, **_options)
add(
    "ConvTranspose",
    numbers(1, 2, 4),
    numbers(2, 1, 4),
    strides=[3],
    auto_pad="SAME_UPPER",
    output_shape=[11],
    **_options,
)

# -- Pools ---------------------------------------------------------------------------------------------------------
_nan = np.arange(30, dtype=np.float32).reshape(1, 1, 5, 6)
_nan[0, 0, 2, 3], _nan[0, 0, 4, 0] = np.nan, -np.inf
for _name in ("MaxPool", "AveragePool", "LpPool"):
    add(_name, numbers(2, 3, 7), kernel_shape=[3], oracle="onnxruntime")
    add(_name, numbers(1, 2, 7, 6), kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1], oracle="onnxruntime")
    add(_name, numbers(1, 1, 4, 4, 3), kernel_shape=[2, 2, 2], strides=[2, 2, 1], oracle="onnxruntime")
    add(_name, numbers(1, 2, 6, 7), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, oracle="onnxruntime")
    for _way in ("VALID", "SAME_UPPER", "SAME_LOWER"):
        add(_name, numbers(1, 1, 5, 6), kernel_shape=[2, 3], strides=[2, 2], auto_pad=_way, oracle="onnxruntime")
add("MaxPool", numbers(1, 1, 7, 8), kernel_shape=[2, 3], dilations=[3, 2], pads=[1, 1, 0, 1])
add(
    "MaxPool", -1 - abs(numbers(1, 1, 5)), kernel_shape=[3], strides=[3], pads=[1, 1], ceil_mode=1, oracle="onnxruntime"
)
add("MaxPool", numbers(1, 1, 5).astype(np.float64), kernel_shape=[5])
add("AveragePool", numbers(1, 1, 7, 8), kernel_shape=[2, 3], dilations=[3, 2], opset=19)
for _include in (0, 1):
    add(
        "AveragePool",
        numbers(1, 2, 6, 7),
        kernel_shape=[3, 4],
        strides=[2, 3],
        pads=[1, 2, 0, 1],
        count_include_pad=_include,
    )
add("LpPool", numbers(1, 1, 5), kernel_shape=[2], p=1)
add("LpPool", numbers(1, 1, 5, 4), kernel_shape=[2, 3], p=3, pads=[0, 1, 0, 1], oracle="onnxruntime")
for _name in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
    add(_name, numbers(2, 3, 4, 5), oracle="onnxruntime")
    add(_name, numbers(2, 3, 4), oracle="onnxruntime")
add("GlobalMaxPool", _nan[:, :, :2])
add("GlobalLpPool", numbers(2, 3, 4), p=1, oracle="onnxruntime")
add("GlobalLpPool", numbers(2, 3, 4), p=3, oracle="onnxruntime")


# -- Resize; the reference evaluator lets align_corners end at lengths that are no integers ------------------------
def _oracle(way: str) -> str:
    return "onnxruntime" if way == "align_corners" else "reference"


_ways = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")
for _way in (*_ways, "half_pixel_symmetric"):
    for _mode in ("nearest", "linear", "cubic"):
        _set: dict[str, Any] = {
            "mode": _mode,
            "coordinate_transformation_mode": _way,
            "opset": 19,
            "oracle": _oracle(_way),
        }
        shaped("Resize", numbers(1, 2, 4, 5), None, None, whole(1, 2, 7, 3), **_set)
        shaped("Resize", numbers(1, 2, 4, 3), None, np.array([1.6, 2.5], np.float32), axes=[2, 3], **_set)
for _round in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
    for _way in _ways:
        _set = {"nearest_mode": _round, "coordinate_transformation_mode": _way, "opset": 18, "oracle": _oracle(_way)}
        shaped("Resize", numbers(1, 4, 5), None, np.array([1, 2, 0.6], np.float32), **_set)
        shaped("Resize", numbers(1, 4, 6), None, None, whole(1, 1, 9), **_set)
shaped("Resize", numbers(1, 1, 4, 4), None, None, whole(9, 7), axes=[2, 3], keep_aspect_ratio_policy="not_larger")
shaped("Resize", numbers(1, 1, 4, 5), None, None, whole(9, 7), axes=[3, 2], keep_aspect_ratio_policy="not_smaller")
shaped("Resize", numbers(1, 6), None, None, whole(1, 9), mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5)
for _mode in ("linear", "cubic"):
    shaped("Resize", numbers(1, 1, 9, 8), None, None, whole(1, 1, 4, 3), mode=_mode, antialias=1)
shaped("Resize", numbers(1, 4), None, None, whole(1, 4), opset=13)

# -- Blocks --------------------------------------------------------------------------------------------------------
add("DepthToSpace", numbers(2, 12, 2, 3), blocksize=2)
add("DepthToSpace", numbers(2, 9, 2, 1), blocksize=3, mode="CRD", opset=13)
add("DepthToSpace", numbers(1, 3, 2, 2), blocksize=1)
add("SpaceToDepth", numbers(2, 3, 4, 6), blocksize=2)
add("SpaceToDepth", numbers(1, 2, 3, 6), blocksize=3)
shaped("Col2Im", numbers(2, 12, 12), whole(4, 5), whole(2, 2))
shaped("Col2Im", numbers(1, 8, 4), whole(4, 4), whole(2, 2), strides=[2, 2])
shaped("Col2Im", numbers(1, 9, 9), whole(5, 5), whole(3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
shaped("Col2Im", numbers(1, 6, 8), whole(6, 5), whole(3, 2), dilations=[2, 1])
shaped("Col2Im", numbers(1, 4, 9), whole(7, 6), whole(2, 2), dilations=[2, 1], strides=[2, 2])
shaped("Col2Im", numbers(1, 3, 4), whole(9), whole(3), strides=[2])
shaped("Col2Im", numbers(2, 3, 3), whole(10), whole(1), strides=[4])
