"""Operators that search, sort, accumulate, read and write at given places."""

from __future__ import annotations

from typing import Any

import numpy as np

from operator_cases.cases import CASES, SPECIAL, OperatorCase, add, numbers, shaped, whole

TIES = np.array([[1, 3, 3, -2, 1], [0, -0.0, 0, 5, 5], [-1, -1, -1, -1, -1]], np.float32)
WITH_NAN = np.array([[1, np.nan, 3, np.nan], [np.inf, -np.inf, np.nan, 0], [1, 2, 2, 1]], np.float32)

for _name in ("ArgMax", "ArgMin"):
    add(_name, TIES, axis=1)
    add(_name, TIES, axis=-1, keepdims=0)
    add(_name, TIES, axis=1, select_last_index=1)
    add(_name, numbers(2, 3, 4), axis=-2, keepdims=0, opset=13)
    add(_name, numbers(3, 2))
    add(_name, numbers(2, 1), axis=1)
    add(_name, WITH_NAN, axis=1)
    add(_name, WITH_NAN, axis=1, select_last_index=1, keepdims=0)
    add(_name, np.array([[3, -1, 3], [2, 2, 9]]), axis=1)
    add(_name, SPECIAL, axis=0)

for _largest in (0, 1):
    shaped("TopK", TIES, whole(3), largest=_largest, results=2)
    shaped("TopK", numbers(5, 4), whole(2), axis=0, largest=_largest, results=2, opset=13)
    shaped("TopK", numbers(2, 6, 2), whole(6), axis=-2, largest=_largest, results=2)
    shaped("TopK", TIES, whole(1), largest=_largest, results=2)
    shaped("TopK", numbers(3, 1), whole(1), largest=_largest, results=2)
    shaped("TopK", np.array([[3, -1, 3, 7]]), whole(3), largest=_largest, results=2)
    shaped("TopK", SPECIAL[[0, 2, 3, 4, 5, 8, 9]], whole(7), largest=_largest, results=2)
shaped("TopK", numbers(3, 4), whole(1), largest=0, sorted=0, results=2)

_ways: list[dict[str, Any]] = [{}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}]
for _attributes in _ways:
    shaped("CumSum", numbers(3, 4), np.asarray(1), **_attributes)
    shaped("CumProd", numbers(3, 4), np.asarray(1), opset=26, **_attributes)
    shaped("CumSum", numbers(2, 3, 2), np.asarray(-2), **_attributes)
    shaped("CumSum", numbers(2, 3, 2), whole(-2), oracle="onnxruntime", **_attributes)
shaped("CumSum", np.array([[1, -2, 4]]), np.asarray(-1))
shaped("CumSum", numbers(3, 1), np.asarray(1), exclusive=1)
shaped("CumSum", np.array([1, np.inf, -np.inf, 2], np.float32), np.asarray(0))
shaped("CumProd", numbers(3), np.asarray(0), opset=26)

_rows = np.array([[0, -1, 1], [2, 2, -4]])
for _known in (shaped, add):
    _known("GatherElements", numbers(2, 4), _rows, axis=1)
    _known("GatherElements", numbers(4, 3), np.array([[3, -2, 0]]), axis=0)
    _known("GatherElements", numbers(3, 4), np.array([[1, 1], [0, 0]]), axis=-1, oracle="onnxruntime")
    _known("GatherElements", numbers(3, 4), np.array([[3, 2, 1]] * 3), axis=1, opset=13)
    _known("GatherElements", numbers(2, 3, 2), np.array([[[0, 1]], [[-1, 2]]]), axis=1)
    _known("GatherND", numbers(3, 4), np.array([[2, 1], [-3, -1]]))
    _known("GatherND", numbers(3, 4), np.array([[[2], [0]], [[-1], [1]]]))
    _known("GatherND", numbers(3, 4, 2), np.array([[0, 3], [2, 0]]))
    _known("GatherND", numbers(3, 4), whole(2, -1))
    _known("GatherND", numbers(2, 3, 4), np.array([[1, -1], [0, 2]]), batch_dims=1)
    _known("GatherND", numbers(2, 3, 4), np.array([[[1], [-1]], [[0], [0]]]), batch_dims=1, opset=13)
    _known("GatherND", numbers(2, 3, 4), np.arange(6).reshape(2, 3, 1) % 4, batch_dims=2)
    _known("ReverseSequence", numbers(4, 3), whole(1, 4, 2), oracle="onnxruntime")
    _known("ReverseSequence", numbers(3, 4, 2), whole(3, 1, 4), time_axis=1, batch_axis=0, oracle="onnxruntime")

shaped("Compress", numbers(3, 4), np.array([True, False, True]), axis=0)
shaped("Compress", numbers(3, 4), np.array([False, True]), axis=-1)
shaped("Compress", numbers(2, 3), np.array([False, True, False, False, True, True]))
CASES.append(OperatorCase("NonZero", {}, {0: np.array([[1, 0, 2], [0, 0, 3]], np.float32)}))
CASES.append(OperatorCase("NonZero", {}, {0: np.array([True, False, True])}))
shaped("Tile", numbers(2, 3), whole(1, 2))
shaped("Tile", numbers(2, 3), whole(2, 1))
shaped("Tile", numbers(2, 1, 3), whole(3, 2, 2))
shaped("Tile", numbers(2), whole(1))

# One place per line meets another update, one place is met from the end.
_twice = np.array([[1, -1, 1], [0, 3, -1]])
known: dict[str, Any]
for _how in ("none", "add", "mul", "min", "max"):
    _opset = 16 if _how in ("add", "mul") else 18
    for _places in (np.array([[1, -1, 0], [0, 3, 1]]), np.array([[2], [0]]), np.array([[0, 2], [0, 2]])):
        add("ScatterElements", numbers(2, 4), _places, numbers(*_places.shape), axis=1, reduction=_how, opset=_opset)
        CASES.append(
            OperatorCase(
                "ScatterElements",
                {0: numbers(2, 4), 2: numbers(*_places.shape)},
                {1: _places},
                {"axis": -1, "reduction": _how},
                _opset,
            )
        )
    for _nd, _updates in (
        (np.array([[2], [0], [-2]]), numbers(3, 3)),
        (np.array([[1], [3]]), numbers(2, 3)),
        (np.array([[2, 0], [-4, -1]]), numbers(2)),
        (np.array([[[1, 1]], [[3, 0]]]), numbers(2, 1)),
    ):
        add("ScatterND", numbers(4, 3), _nd, _updates, reduction=_how, opset=_opset)
        known = {"reduction": _how}
        CASES.append(OperatorCase("ScatterND", {0: numbers(4, 3), 2: _updates}, {1: _nd}, known, _opset))
    for _places in (np.array([[1, 2, 3, 4, 5]] * 2), np.array([[0, 2, 4, 6, -1]]), np.array([[6, 5, 4, 3, 2]])):
        _x, _updates, known = numbers(len(_places), 9), numbers(*_places.shape), {"axis": 1, "reduction": _how}
        CASES.append(OperatorCase("ScatterElements", {0: _x, 2: _updates}, {1: _places}, known, _opset))
    if _how != "none":  # the order of several updates of one place does not matter
        _many = np.array([[2, 0, 2, 2, -1, 2, 2, 0, 2]] * 2)
        _special = WITH_NAN[:2] if _how in ("add", "mul") else -TIES[:2, 1:]
        for _places, _x in ((_twice, numbers(2, 4)), (_many, _special), (_many[:, ::2], TIES[:2, :4])):
            _updates = numbers(*_places.shape)
            add("ScatterElements", _x, _places, _updates, axis=1, reduction=_how, opset=18, oracle="onnxruntime")
            CASES.append(
                OperatorCase(
                    "ScatterElements",
                    {0: _x, 2: _updates},
                    {1: _places},
                    {"axis": 1, "reduction": _how},
                    18,
                    oracle="onnxruntime",
                )
            )
        _nd, _updates = np.array([[1], [1], [-1], [1], [1], [1]]), numbers(6, 2)
        add("ScatterND", numbers(3, 2), _nd, _updates, reduction=_how, opset=18)
        CASES.append(OperatorCase("ScatterND", {0: numbers(3, 2), 2: _updates}, {1: _nd}, {"reduction": _how}, 18))
add("ScatterElements", numbers(3, 3, 2), np.array([[[2], [0]]]), numbers(1, 2, 1), axis=1)
add("ScatterElements", np.array([[3, 4, 5]]), np.array([[1, 0]], np.int32), np.array([[7, 8]]), axis=1)
CASES.append(
    OperatorCase("ScatterElements", {0: numbers(3, 4), 2: numbers(2, 2)}, {1: np.array([[2, 0], [1, 3]])}, {"axis": 1})
)
add("ScatterND", np.array([True, False, True]), np.array([[1]]), np.array([True]))
