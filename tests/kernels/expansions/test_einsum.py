"""Einsum means what NumPy says, becomes matrix products, and keeps the problems of a batch apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from unfoldc.errors import ModelError
from unfoldc.kernels.expansions.einsum_equation import parse
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.lower import lower
from unfoldc.kernels.pipeline import load_program, optimise
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.reading.from_onnx import import_onnx

LENGTHS = {"b": 1, "i": 3, "j": 4, "k": 2, "l": 5, "A": 2, "z": 3}


def model_of(equation: str, shapes: Sequence[tuple[int | str, ...]]) -> onnx.ModelProto:
    names = [f"x{i}" for i in range(len(shapes))]
    node = helper.make_node("Einsum", names, ["y"], name="the sum", equation=equation)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip(names, shapes, strict=True)
    ]
    graph = helper.make_graph([node], "one", inputs, [helper.make_empty_tensor_value_info("y")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def shapes_of(equation: str) -> list[tuple[int, ...]]:
    terms = equation.replace(" ", "").split("->")[0].split(",")
    return [tuple(LENGTHS[c] for c in term) for term in terms]


def check(equation: str, shapes: Sequence[tuple[int, ...]], workshop: Any, seed: int = 5) -> Any:
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    program = import_onnx(workshop.save(model_of(equation, shapes), "sum.onnx")).program
    inputs = {f"x{i}": a for i, a in enumerate(arrays)}
    wanted = np.einsum(equation, *(a.astype(np.float64) for a in arrays))
    (found,) = evaluate(program, inputs, dtype="float64")
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)
    optimised = optimise(program, verify=True)
    loops = lower(optimised)
    (result,) = run(loops, dict(zip(loops.inputs, arrays, strict=True))).values()
    np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-5)
    return optimised


@pytest.mark.parametrize(
    "equation",
    [
        "ii->i", "ii", "iji->j", "iii->i", "ij->ji", "ij->", "ijk->ki", "i->i", "ij->j", " i j -> j i ",
        "ij,jk", "ij,kj->ik", "bij,bj->bi", "ij,bj->bi", "bi,bij->bj", "bi,bij,bj->b", "bij,bjk,bkl->bil", "i,j->ij",
        "i,i->", "ij,ij->", "ij,ij->ij", "ijk,jk->i", "ijk,kj->i", "bijk,bjk->bi", "bi,ij,kj->bk", "Ai,iz->zA",
        "ij,jA", "ij,k->", "ij,k->jk", "i,j,k->kji", "ii,i->i", "ij,jj->i", ",i->i", ",->", "ijz,kjl->izkl",
        "bijk,bljz->biklz", "ijk,ljk->il", "i,ij,j->", "bik,bjk->bij", "ij,bjk,kl->bil", "ijAz,jAl->ilz",
    ],
)  # fmt: skip
def test_equations(equation: str, workshop: Any) -> None:
    check(equation, shapes_of(equation), workshop)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("b...,b...->...", [(2, 3, 4), (2, 3, 4)]),
        ("...ij,...jk->...ik", [(2, 1, 3, 4), (5, 4, 2)]),
        ("...ij,...j", [(2, 3, 4), (4,)]),
        ("i...->...i", [(2, 3, 4)]),
        ("...,...", [(3, 1), (1, 2)]),
        ("...i,...i->...", [(2, 3, 4), (3, 4)]),
        ("a...b,...b->a...", [(2, 3, 4), (3, 4)]),
        ("...->", [(2, 3)]),
        ("ij,jk->ik", [(2, 1), (3, 4)]),
        ("ij,ij->ij", [(2, 1), (2, 4)]),
        ("bij,bjk->bik", [(1, 2, 3), (4, 3, 2)]),
    ],
)
def test_ellipsis_and_broadcasting(equation: str, shapes: Sequence[tuple[int, ...]], workshop: Any) -> None:
    if equation == "...->":  # NumPy asks for the ellipsis in the result; PyTorch sums over it
        program = import_onnx(workshop.save(model_of(equation, shapes), "sum.onnx")).program
        (found,) = evaluate(program, {"x0": np.ones(shapes[0], np.float32)}, dtype="float64")
        assert found == 6
    else:
        check(equation, shapes, workshop)


def test_random_equations(workshop: Any) -> None:
    rng = np.random.default_rng(11)
    letters = list("ijklzA")
    for _ in range(25):
        terms = ["".join(rng.choice(letters, rng.integers(0, 4))) for _ in range(rng.integers(1, 5))]
        used = sorted(set("".join(terms)))
        kept = "".join(rng.permutation(used)[: rng.integers(0, min(3, len(used)) + 1)]) if used else ""
        equation = f"{','.join(terms)}->{kept}"
        check(equation, shapes_of(equation), workshop)


@pytest.mark.parametrize(
    ("equation", "products"),
    [
        ("ij,jk->ik", 1), ("bij,bj->bi", 1), ("ij,bj->bi", 1), ("bij,bjk,bkl->bil", 2), ("bijk,bjk->bi", 1),
        ("ij,ij->ij", 0), ("i,j->ij", 0), ("ijz,kjl->izkl", 1),
    ],
)  # fmt: skip
def test_a_contraction_is_one_matrix_product(equation: str, products: int, workshop: Any) -> None:
    program = check(equation, shapes_of(equation), workshop)
    operators = [node.operator for node in program.nodes()]
    assert operators.count("MatMul") == products and "ReduceSum" not in operators
    assert ("Mul" in operators) == (products == 0)


@pytest.mark.parametrize("equation", ["ij,bj->bi", "bi,ij->bj", "bij,bkj->bik", "ij,bjk->bik", "bkj,ij->bki"])
def test_the_product_has_the_order_of_the_result(equation: str, workshop: Any) -> None:
    assert list(check(equation, shapes_of(equation), workshop).nodes())[-1].operator == "MatMul"


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bij,bj->bi", [("batch", 3, 4), ("batch", 4)]),
        ("ij,bj->bi", [(3, 4), ("batch", 4)]),
        ("bi,bj->bij", [("batch", 3), ("batch", 4)]),
        ("bij,bjk,bkl->bil", [("batch", 3, 4), ("batch", 4, 2), ("batch", 2, 3)]),
        ("...ij,...j->...i", [("batch", 3, 4), ("batch", 4)]),
        ("bii->bi", [("batch", 3, 3)]),
        ("ij,jk,bk->bi", [(3, 4), (4, 2), ("batch", 2)]),
        ("bijk,bjk->bi", [("batch", 2, 3, 4), ("batch", 3, 4)]),
        ("bti,ij->btj", [("batch", 2, 3), (3, 4)]),
        ("bi,bi->b", [("batch", 3), ("batch", 3)]),
        ("tbi,ij->btj", [(2, 1, 3), (3, 4)]),
    ],
)
def test_problems_stay_apart(equation: str, shapes: Sequence[tuple[int | str, ...]], workshop: Any) -> None:
    model, _ = load_program(workshop.save(model_of(equation, shapes), "sum.onnx"))
    assert model.batch is None and any(p.batched for p in model.inputs) == any("batch" in s for s in shapes)


def test_a_sum_over_the_batch_is_refused(workshop: Any) -> None:
    path = workshop.save(model_of("bi,bj->ij", [("batch", 3), ("batch", 4)]), "sum.onnx")
    with pytest.raises(ModelError, match="couples the problems"):
        load_program(path)


@pytest.mark.parametrize(
    ("equation", "shapes", "reason"),
    [
        ("ij,jk->ik", [(2, 3)], "has 2 operands"),
        ("ij->ii", [(2, 3)], "labels twice"),
        ("ij->k", [(2, 3)], "that no operand has"),
        ("i1->i", [(2, 3)], "not a row of letters"),
        ("ijk->i", [(2, 3)], "3 axes for a value with 2"),
        ("i->i", [(2, 3)], "1 axes for a value with 2"),
        ("ij,jk->ik", [(2, 3), (4, 2)], "lengths 3 and 4"),
    ],
)
def test_what_is_no_equation(equation: str, shapes: Sequence[tuple[int, ...]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(equation, shapes)
