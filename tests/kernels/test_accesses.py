from __future__ import annotations

from unfoldc.kernels.accesses import Access, accesses, reads, touches, writes
from unfoldc.kernels.loops import For, Load, Store, Var

I = Var("i")  # noqa: E741
WHERE = Load("where", (I,), "int32")
BODY = (For("i", 3, (Store("a", (WHERE,), Load("b", (I,), "float32")),)),)


def test_what_statements_read_and_write() -> None:
    assert accesses(BODY) == [Access("where", (I,), False), Access("b", (I,), False), Access("a", (WHERE,), True)]


def test_buffers_in_use() -> None:
    assert (reads(BODY), writes(BODY), touches(BODY)) == ({"b", "where"}, {"a"}, {"a", "b", "where"})
