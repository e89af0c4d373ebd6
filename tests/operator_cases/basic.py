"""Cases of the operators that have entries of their own in the table."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from operator_cases.cases import CASES, SPECIAL, OperatorCase, add, numbers, shaped, whole

for _name in ("Neg", "Abs", "Sqrt", "Exp", "Log", "Tanh", "Erf", "Sin", "Cos", "Floor", "Ceil", "Round", "IsNaN"):
    add(_name, SPECIAL if _name not in ("Sin", "Cos") else SPECIAL[[0, 1, 2, 3, 10]])
    add(_name, numbers(2, 3))
for _name in ("Sign", "Relu", "LeakyRelu", "Sigmoid", "Softplus", "Reciprocal"):
    add(_name, SPECIAL)
    add(_name, numbers(1, 3, 2).astype(np.float64))
add("Abs", whole(-3, 0, 4))
add("Neg", whole(-3, 0, 4))
add("Sign", whole(-3, 0, 4))
add("LeakyRelu", numbers(5), alpha=-0.3)
add("Shrink", SPECIAL[:-2], lambd=0.6, bias=0.6)
add("Shrink", numbers(5), lambd=0.1)
for _name in ("Add", "Sub", "Mul", "Div", "Min", "Max"):
    add(_name, SPECIAL[:, None], SPECIAL)
    add(_name, numbers(2, 1, 3), numbers(4, 1))
    add(_name, np.float32(2.5), numbers(3))
for _name in ("Add", "Sub", "Mul", "Min", "Max"):
    add(_name, whole(3, -4), whole(2))
for _name in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"):
    add(_name, SPECIAL[:, None], SPECIAL)
    add(_name, whole(1, 2, 3), whole(2))
add("Equal", np.array([True, False]), np.array([[True], [False]]))
for _name in ("And", "Or"):
    add(_name, np.array([True, False]), np.array([[True], [False]]))
add("Not", np.array([True, False]))
add("Pow", np.abs(numbers(4)), numbers(4))
add("Pow", SPECIAL[:6], np.float32(2))
add("Pow", numbers(3), whole(2, 3, -1))
for _name in ("Min", "Max", "Sum"):
    add(_name, numbers(3))
    add(_name, numbers(3), numbers(2, 1), np.float32(0.25))
add("Sum", SPECIAL, SPECIAL)
add("Where", np.array([[True], [False]]), SPECIAL, numbers(12))
add("Where", np.array([True, False, True]), whole(1, 2, 3), whole(9))
add("Cast", SPECIAL, to=TensorProto.BOOL)
add("Cast", np.array([1.9, -1.9, 0.0], np.float32), to=TensorProto.INT64)
add("Cast", np.array([1.9, -1.9, 0.0]), to=TensorProto.FLOAT)
add("Cast", np.array([True, False]), to=TensorProto.FLOAT)
add("Cast", whole(3, -4), to=TensorProto.INT32)
add("Clip", SPECIAL, np.float32(-1), np.float32(2))
add("Clip", numbers(4), np.float32(0.5))
add("Clip", numbers(4))
add("Clip", numbers(4), np.float32(1), np.float32(-1))
CASES.append(OperatorCase("Clip", {0: numbers(4), 2: np.asarray(np.float32(0.1))}))

add("MatMul", numbers(2, 3), numbers(3, 4))
add("MatMul", numbers(3), numbers(3))
add("MatMul", numbers(3), numbers(3, 2))
add("MatMul", numbers(2, 3), numbers(3))
add("MatMul", numbers(2, 1, 3, 4), numbers(5, 4, 2))
add("MatMul", numbers(5, 2, 3), numbers(3))
add("MatMul", numbers(1, 1), numbers(1, 1))
add("MatMul", np.array([[np.inf, 1], [np.nan, 2]], np.float32), numbers(2, 2))
add("MatMul", np.arange(6).reshape(2, 3), np.arange(3))
add("Gemm", numbers(2, 3), numbers(3, 4))
add("Gemm", numbers(3, 2), numbers(4, 3), numbers(4), transA=1, transB=1, alpha=0.5, beta=-2.0)
add("Gemm", numbers(2, 3), numbers(4, 3), numbers(2, 1), transB=1)
add("Gemm", numbers(2, 3), numbers(3, 4), np.float32(3), beta=0.5)

for _name in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare"):
    _name = f"Reduce{_name}"
    shaped(_name, numbers(2, 3, 4), whole(1))
    shaped(_name, numbers(2, 3, 4), whole(-1, 0), keepdims=0)
    shaped(_name, numbers(2, 3))
    shaped(_name, numbers(2, 3), noop_with_empty_axes=1)
    shaped(_name, np.array([[1, np.nan], [np.inf, -np.inf]], np.float32), whole(1), keepdims=0)
    if _name != "ReduceSum":
        shaped(_name, numbers(2, 3, 4), opset=17 if _name in ("ReduceMax", "ReduceMin") else 13, axes=[-1])
for _name in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceSumSquare"):
    shaped(_name, np.array([[3, -4], [2, -1]]), whole(1), keepdims=0)

shaped("Reshape", numbers(2, 6), whole(3, 4))
shaped("Reshape", numbers(2, 3, 4), whole(0, -1))
shaped("Reshape", numbers(4, 1, 3), whole(1, 12, 1))
shaped("Reshape", numbers(6, 4), whole(2, 3, 2, 2))
shaped("Reshape", numbers(4, 9), whole(6, 6))
shaped("Reshape", numbers(1), whole())
add("Flatten", numbers(2, 3, 4))
add("Flatten", numbers(2, 3, 4), axis=0)
add("Flatten", numbers(2, 3, 4), axis=-1)
add("Flatten", numbers(2, 3), axis=2)
shaped("Squeeze", numbers(1, 3, 1), whole(0))
shaped("Squeeze", numbers(1, 3, 1), whole(-1, 0))
shaped("Squeeze", numbers(1, 3, 1))
shaped("Unsqueeze", numbers(3), whole(0, -1))
add("Transpose", numbers(2, 3, 4))
add("Transpose", numbers(2, 3, 4), perm=[1, 2, 0])
add("Transpose", np.float32(3))
add("Identity", numbers(2))
shaped("Expand", numbers(3, 1), whole(2, 1, 4))
shaped("Expand", numbers(3, 2), whole(2))
shaped("Expand", np.asarray(np.float32(2)), whole(2, 2))
shaped("Slice", numbers(5, 4), whole(1), whole(4))
shaped("Slice", numbers(5, 4), whole(-1), whole(-6), whole(0), whole(-2))
shaped("Slice", numbers(5, 4), whole(3), whole(-(2**63)), whole(1), whole(-1))
shaped("Slice", numbers(5, 4), whole(0, -3), whole(2**62, 2**62), whole(-1, 0), whole(2, 1))
shaped("Gather", numbers(4, 3), whole(2, -1))
shaped("Gather", numbers(4, 3), np.asarray(-2), axis=1)
shaped("Gather", numbers(4, 3), np.array([[0, 2], [1, 1]]), axis=-1)
add("Gather", numbers(4, 3), np.array([3, -4]))
add("Gather", numbers(4, 3), np.array([2, 0], np.int32), axis=1)
add("Concat", numbers(2, 3), axis=0)
add("Concat", numbers(2, 3), numbers(2, 1), numbers(2, 2), axis=-1)
add("Concat", numbers(2), numbers(1), axis=0)
add("Concat", whole(1, 2), whole(3), axis=0)

add("Shape", numbers(2, 3, 4))
add("Shape", numbers(2, 3, 4), start=-2, end=3)
add("Size", numbers(2, 3, 4))
CASES.append(OperatorCase("ConstantOfShape", {}, {0: whole(2, 3)}, {"value": np.array([2.5], np.float32)}))
CASES.append(OperatorCase("ConstantOfShape", {}, {0: whole(4)}))
for _ends in ((np.float32(1), np.float32(3), np.float32(0.3)), (*whole(5, -3, -2),)):
    CASES.append(OperatorCase("Range", {}, {i: np.asarray(e) for i, e in enumerate(_ends)}))

shaped("Split", numbers(5, 4), whole(2, 3), results=2)
shaped("Split", numbers(2, 7), axis=1, num_outputs=3, results=3)
shaped("Split", numbers(2, 6), axis=-1, opset=13, results=2)
