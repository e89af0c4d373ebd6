from __future__ import annotations

from collections.abc import Sequence

import pytest

from unfoldc.kernels import build
from unfoldc.kernels.loops import Expr, For, Load, Nest, Stmt, Store, Var
from unfoldc.kernels.passes.store_in_place import store_in_place

I = Var("i")  # noqa: E741


def at(buffer: str, *indices: Expr) -> Load:
    return Load(buffer, indices, "float32")


def make(target: str, value: Expr) -> Nest:
    return Nest((), (For("i", 4, (Store(target, (I,), value),)),))


def copy(target: str, source: str) -> Nest:
    return make(target, at(source, I))


def buffers(body: Sequence[Stmt]) -> list[str]:
    return [s.buffer for s in build.statements(tuple(body)) if isinstance(s, Store)]


def test_a_copy_of_a_fresh_value_goes() -> None:
    body, gone = store_in_place([make("t", build.add(at("x", I), at("y", I)))], [copy("x", "t")], set())
    assert buffers(body) == ["x"] and gone == {"t"}


@pytest.mark.parametrize(
    ("nests", "copies", "why"),
    [
        ([make("t", at("x", build.sub(build.index(3), I)))], [copy("x", "t")], "it reads the old x at other places"),
        ([make("t", at("y", I)), make("u", at("x", I))], [copy("x", "t")], "a later nest reads the old x"),
        ([make("t", at("y", I))], [copy("x", "t"), copy("z", "t")], "two copies of one value"),
        ([make("t", at("y", I))], [make("x", at("t", build.sub(build.index(3), I)))], "not a plain copy"),
        ([], [copy("x", "y")], "made elsewhere"),
    ],
)
def test_other_copies_stay(nests: list[Nest], copies: list[Nest], why: str) -> None:
    body, gone = store_in_place(nests, copies, set())
    assert (list(body), gone) == ([*nests, *copies], set()), why


def test_what_others_need_keeps_its_place() -> None:
    nests, copies = [make("t", at("y", I))], [copy("x", "t")]
    assert store_in_place(nests, copies, {"t"}) == ((*nests, *copies), set())


def test_later_readers_of_the_value_follow_it() -> None:
    body, _ = store_in_place([make("t", at("y", I)), make("u", at("t", I))], [copy("x", "t")], set())
    assert body == (make("x", at("y", I)), make("u", at("x", I)))


def test_a_swap_keeps_one_copy() -> None:
    """x and z change places by way of s and t: one of the four stores can go, not two."""
    body, gone = store_in_place([copy("s", "x"), copy("t", "z")], [copy("x", "t"), copy("z", "s")], set())
    memory = {"x": 1, "z": 2}
    for nest in body:
        (store,) = (s for s in build.statements((nest,)) if isinstance(s, Store))
        assert isinstance(store.value, Load)
        memory[store.buffer] = memory[store.value.buffer]
    assert (memory["x"], memory["z"], len(gone)) == (2, 1, 1)
