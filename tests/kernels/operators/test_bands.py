"""Operators that no file contains: their NumPy meaning against a matrix, their loops against that, their mistakes."""

from __future__ import annotations

import numpy as np
import pytest

from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.lower import lower
from unfoldc.kernels.operators import OPERATORS, result_types
from unfoldc.kernels.program import Node, Origin, Program, TensorType
from unfoldc.kernels.verify import verify_loops, verify_program


def program(operator: str, constant: np.ndarray, x: tuple[int, ...], **attributes: object) -> Program:
    """One node as the only iteration: Band of an input and a constant, or a product with a Toeplitz matrix."""
    types = {"x": TensorType("float64", x), "c": TensorType("float64", constant.shape)}
    inputs = ("x", "c") if operator == "Band" else ("c",)
    origin = Origin("made by hand", operator)
    (types["y"],) = result_types(OPERATORS[operator], attributes, [types[i] for i in inputs], [None] * len(inputs))
    nodes = [Node(operator, inputs, ("y",), attributes, origin)]
    if operator == "Toeplitz":
        types["z"] = TensorType("float64", (types["y"].shape[0], *x[1:]))
        nodes.append(Node("MatMul", ("y", "x"), ("z",), {}, origin))
    result = Program(("x",), nodes[-1].outputs, types, {"c": constant}, (), (), tuple(nodes), rolled=True)
    verify_program(result)
    return result


def computed(p: Program, x: np.ndarray) -> np.ndarray:
    loops = lower(p)
    verify_loops(loops)
    return np.asarray(run(loops, {loops.inputs[0]: x})[loops.outputs[0]])


@pytest.mark.parametrize("width", [1, 3, 20])
@pytest.mark.parametrize("length", [1, 7])
@pytest.mark.parametrize(("axis", "lead"), [(-1, ()), (-1, (2, 3)), (-2, (2,))])
def test_band(width: int, length: int, axis: int, lead: tuple[int, ...]) -> None:
    rng = np.random.default_rng((width, length, len(lead)))
    D = rng.standard_normal((width, length))
    T = np.zeros((7, 7 + width - 1))
    for d in range(width):
        T[np.arange(7), np.arange(7) + d] = D[d]
    x = rng.standard_normal((*lead, T.shape[1], *((4,) if axis == -2 else ())))
    wanted = np.moveaxis(np.tensordot(x, T, (len(x.shape) + axis, 1)), -1, axis)
    (reference,) = OPERATORS["Band"].evaluate({"axis": axis}, [x, D])
    np.testing.assert_allclose(reference, wanted, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(computed(program("Band", D, x.shape, axis=axis), x), wanted, rtol=1e-13, atol=1e-13)


def test_toeplitz() -> None:
    rng = np.random.default_rng(6)
    t, x = rng.standard_normal(10), rng.standard_normal((7, 2))
    T = np.array([[t[3 - i + j] for j in range(7)] for i in range(4)])
    np.testing.assert_allclose(
        computed(program("Toeplitz", t, x.shape, shape=(4, 7)), x), T @ x, rtol=1e-13, atol=1e-13
    )


@pytest.mark.parametrize(
    ("operator", "shapes", "attributes", "message"),
    [
        ("Band", [(5,), (2, 3)], {"axis": -1}, r"diagonals of shape \[2, 3\] for 5 elements"),
        ("Band", [(5,), (6, 1)], {"axis": -1}, r"diagonals of shape \[6, 1\] for 5 elements"),
        ("Band", [(5,), (2, 1)], {"axis": -2}, "along axis -2"),
        ("Toeplitz", [(5,)], {"shape": (3, 4)}, r"\[5\] numbers for the diagonals of 3 rows and 4 columns"),
    ],
)
def test_mistakes(operator: str, shapes: list[tuple[int, ...]], attributes: dict[str, object], message: str) -> None:
    types = [TensorType("float32", shape) for shape in shapes]
    with pytest.raises(ValueError, match=message):
        result_types(OPERATORS[operator], attributes, types, [None] * len(types))
