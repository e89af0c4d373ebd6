"""Functions of exact linear algebra in a file: what is known, refused, folded and batched."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from exact_nodes import OURS, one_node
from onnx import helper

import unfoldc
from unfoldc.errors import ModelError
from unfoldc.kernels.pipeline import load_program
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.reading.from_onnx import import_onnx


def test_the_name_decides_not_the_body(workshop: Any) -> None:
    """A file that gives our function a body of its own gets our meaning, with a body or without."""
    model = one_node(workshop.Graph(), "Inverse", 3)
    a = np.array([[2, 1, 0], [0, 1, 0], [0, 0, 4]], np.float32)
    answers = []
    for body in ("", "Y = Neg (X)"):
        if body:
            text = f'<domain: "unfoldc", opset_import: ["": 18]> Inverse (X) => (Y) {{ {body} }}'
            model.functions.append(onnx.parser.parse_function(text))
        imported = import_onnx(workshop.save(model))
        answers.append(evaluate(imported.program, {"A": a})[0])
    for found in answers:
        np.testing.assert_allclose(found.reshape(3, 3), np.linalg.inv(a), atol=1e-6)


def test_what_is_refused(workshop: Any) -> None:
    def refused(
        operator: str, shapes: list[tuple[int, ...]], says: str, dtype: str = "float32", **attributes: Any
    ) -> None:
        g = workshop.Graph()
        inputs = [g.input(f"x{i}", *s, dtype=dtype) for i, s in enumerate(shapes)]
        with pytest.raises(ModelError, match=says):
            import_onnx(workshop.save(g.model(g(operator, *inputs, **attributes))))

    refused("Cholesky", [(3, 4)], "square matrices", domain=OURS)
    refused("Cholesky", [(4,)], "square matrices", domain=OURS)
    refused("Cholesky", [(3, 3), (3, 3)], "2 inputs, where 1", domain=OURS)
    refused("Cholesky", [(3, 3)], "int64", "int64", domain=OURS)
    refused("Solve", [(3, 3)], "1 inputs, where 2", domain=OURS)
    refused("Solve", [(3, 3), (4, 1)], "right-hand sides", domain=OURS)
    refused("Solve", [(3, 3), (3,)], "right-hand sides", domain=OURS)
    refused("Solve", [(2, 3, 3), (4, 3, 1)], "broadcast", domain=OURS)
    refused("SolveTriangular", [(3, 3), (3, 1)], "attribute 'upper' = 2", domain=OURS, upper=2)
    refused("SolveTriangular", [(3, 3), (3, 1)], "attribute 'lower'", domain=OURS, lower=1)
    refused("SolveTriangular", [(3, 3), (3, 1)], "attribute 'upper' = 1.0", domain=OURS, upper=1.0)
    refused("Inverse", [(3, 2)], "square matrices", domain="com.microsoft")
    refused("Cholesky", [(3, 3)], "not known")
    refused("LowerUpper", [(3, 3)], "not known")
    refused("unfoldc.Cholesky", [(3, 3)], "not known")
    refused("LowerUpper", [(3, 3)], "unfoldc.LowerUpper is not known", domain=OURS)


def test_an_input_that_is_left_out_is_counted_out(workshop: Any) -> None:
    model = one_node(workshop.Graph(), "Solve", 3)
    model.graph.node[0].input[0] = ""
    with pytest.raises(ModelError, match="1 inputs, where 2"):
        import_onnx(workshop.save(model))


def test_another_version_of_the_functions_is_refused(workshop: Any) -> None:
    model = one_node(workshop.Graph(), "Inverse", 3)
    model.opset_import.append(helper.make_opsetid(OURS, 2))
    with pytest.raises(ModelError, match="version 2 of the functions of domain 'unfoldc'"):
        import_onnx(workshop.save(model))


@pytest.mark.parametrize("operator", ["Cholesky", "Inverse"])
def test_a_constant_that_has_no_inverse_gives_nan(operator: str, workshop: Any) -> None:
    """It is computed when the model is read, and is no reason to refuse batches."""
    g = workshop.Graph()
    made = g(operator, g.weight("W", np.zeros((3, 3))), domain=OURS)
    path = workshop.save(g.model(g("MatMul", made, g.input("b", "batch", 3, 1))))
    for backend in ("reference", "c"):
        x = unfoldc.compile(path, backend=backend, cache=False)(np.ones((2, 3, 1), np.float32))
        assert np.isnan(x).all()


def couples(g: Any) -> onnx.ModelProto:
    y = g.input("y", "batch", 4)
    gram = g("Add", g("MatMul", g("Transpose", y, perm=[1, 0]), y), g.weight("I", np.eye(4)))
    return g.model(g("Transpose", g("Solve", gram, g("Transpose", y, perm=[1, 0]), domain=OURS), perm=[1, 0]))  # type: ignore[no-any-return]


def columns(g: Any) -> onnx.ModelProto:
    """The problems are the right-hand sides of one matrix."""
    y, a = g.input("y", "batch", 4), g.input("A", 4, 4)
    column = g("Transpose", y, perm=[1, 0])
    both = g("Add", g("Solve", a, column, domain=OURS), g("SolveTriangular", a, column, domain=OURS))
    return g.model(g("Transpose", both, perm=[1, 0]))  # type: ignore[no-any-return]


def test_a_batch_of_right_hand_sides_and_a_matrix_of_all(workshop: Any) -> None:
    with pytest.raises(ModelError, match="couples the problems"):
        load_program(workshop.save(couples(workshop.Graph())))
    solver = unfoldc.compile(workshop.save(columns(workshop.Graph())), backend="c", cache=False)
    rng = np.random.default_rng(8)
    a, y = rng.normal(size=(4, 4)) + 3 * np.eye(4), rng.normal(size=(9, 4))
    exact = np.linalg.solve(a, y.T).T + np.linalg.solve(np.tril(a), y.T).T
    given = {"y": y.astype(np.float32), "A": a.astype(np.float32)}
    found = next(iter(solver.run(given).outputs.values()))
    assert np.linalg.norm(found - exact) < 1e-5 * np.linalg.norm(exact)
