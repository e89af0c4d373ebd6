"""What may be taken for equal, and what not."""

from __future__ import annotations

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Binary, Buffer, Expr, Load, Stmt, Store
from unfoldc.kernels.passes.equal_scalars import equal_states, merged, prints, regrouped
from unfoldc.kernels.passes.scalar_graph import ScalarGraph

F = "float32"
BUFFERS = {n: Buffer(n, F, (8,), s) for n, s in (("x", "input"), ("s", "state"), ("h", "state"), ("y", "output"))}


def at(buffer: str, place: int) -> Load:
    return Load(buffer, (build.index(place),), F)


def graph(values: dict[int, Expr], buffer: str = "y") -> ScalarGraph:
    """What stores these values at their places."""
    found = ScalarGraph(BUFFERS, {}, 1000)
    body: list[Stmt] = [Store(buffer, (build.index(i),), e) for i, e in values.items()]
    found.run(body, {}, {})
    return found


def operations(found: ScalarGraph) -> int:
    return sum(not found.scalars[x].is_leaf for x in found.wanted())


def together(a: Expr, b: Expr) -> bool:
    """Whether two values are one."""
    found = merged(graph({0: a, 1: b}), {})
    return len(set(found.stored.values())) == 1


X, Y, Z = (at("x", i) for i in range(3))


def test_rational_expressions_in_any_form() -> None:
    assert together(build.mul(X, build.add(Y, Z)), build.add(build.mul(Z, X), build.mul(X, Y)))
    assert together(build.binary("div", build.mul(X, Y), Z), build.mul(build.binary("div", X, Z), Y))
    assert not together(build.mul(X, build.add(Y, Z)), build.add(build.mul(Z, X), build.mul(Y, Y)))
    small = build.literal(1e-30, F)
    assert not together(X, build.add(X, small)) and not together(build.mul(X, Y), build.add(build.mul(X, Y), small))


def test_other_functions_of_equal_values() -> None:
    twice = build.mul(build.literal(2, F), X)
    for operator in ("exp", "sqrt", "neg"):
        assert together(build.unary(operator, twice), build.unary(operator, build.add(X, X)))
    assert not together(build.unary("exp", X), build.unary("sqrt", X))
    assert not together(Binary("max", X, Y, F), Binary("min", X, Y, F))


def test_nan_is_seen_wherever_it_comes_from() -> None:
    """x + y - y is x, but not where y is NaN; x - x is no 0."""
    assert not together(X, build.sub(build.add(X, Y), Y))
    assert not together(build.sub(X, X), build.literal(0, F))
    assert not together(build.sub(X, X), build.sub(Y, Y))


def test_products_by_way_of_others() -> None:
    """(x z) y, where x y is there anyhow."""
    plain = graph({0: build.mul(X, Y), 1: build.mul(build.mul(X, Z), Y)})
    found = regrouped(plain)
    assert operations(plain) == 3 and operations(found) == 2
    assert [found.stored[p] for p in plain.stored] == [x for x in found.stored.values()]
    known, before = prints(found, {}), prints(plain, {})
    assert [known[n] for n in found.stored.values()] == [before[n] for n in plain.stored.values()]
    read_again = {0: build.mul(X, Y), 1: build.mul(build.mul(X, Z), Y), 2: build.mul(X, Z)}
    assert operations(regrouped(graph(read_again))) == 3


def test_states_are_equal_only_as_long_as_iterations_leave_them_so() -> None:
    begin = graph({0: X, 1: X, 2: X, 3: Y}, "s")
    step = graph({0: build.mul(at("s", 0), Y), 1: build.mul(Y, at("s", 1)), 2: build.add(at("s", 2), Y)}, "s")
    places = [("s", (build.index(i),)) for i in range(4)]
    labels = equal_states(begin, [step])
    assert labels[places[0]] == labels[places[1]]
    assert len({labels[p] for p in places}) == 3
    apart = graph({0: at("s", 3)}, "s")  # in another kind of iteration
    assert len({equal_states(begin, [step, apart])[p] for p in places}) == 4


def test_slots_of_a_history_are_not_equal() -> None:
    from unfoldc.kernels.loops import ITERATION, Var

    begin = graph(dict.fromkeys(range(8), build.literal(0, F)), "h")
    step = ScalarGraph(BUFFERS, {}, 1000)
    step.run([Store("h", (Var(ITERATION),), X)], {}, {})
    assert equal_states(begin, [step]) == {}


def test_equal_constants_are_read_in_one_place() -> None:
    buffers = {**BUFFERS, "w": Buffer("w", F, (4,), "constant")}
    found = ScalarGraph(buffers, {"w": np.array([0.5, 0.0, 0.5, 1.0], F)}, 1000)
    values = [build.mul(at("w", i), X) for i in range(4)]
    found.run([Store("y", (build.index(i),), e) for i, e in enumerate(values)], {}, {})
    stored = list(found.stored.values())
    assert stored[0] == stored[2] and found.scalars[stored[3]].shape == X
    assert found.scalars[stored[1]].shape == at("w", 1)  # 0, whatever x is: as where a matrix has bands of zeros
