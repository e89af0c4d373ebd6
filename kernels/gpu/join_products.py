"""Products in front of a nest that need no buffer of their own: they add to another one, or are stored in place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import dataclass, replace

from unfoldc.kernels import build
from unfoldc.kernels.accesses import writes
from unfoldc.kernels.gpu.product import product_of
from unfoldc.kernels.loops import Assign, Binary, Buffer, Expr, For, Let, Load, Local, Nest, Stmt, Store


@dataclass
class Products:
    """The `nests` of a nest's products, and of what they read; they change, and `buffers` lose what nobody needs."""

    nests: list[Stmt]
    buffers: dict[str, Buffer]
    shared: Collection[str]

    def added_up(self, body: list[Stmt]) -> list[Stmt]:
        """Where two products are added, the second is added to the first right away."""
        made = {s.name: s.value for s in body if isinstance(s, Let) and self._is_product(s.value)}
        for place, s in enumerate(body):
            for e in build.within((s,)):
                match e:
                    case Binary(("add" | "sub") as operator, Local(a), Local(b)) if {a, b} <= made.keys() and a != b:
                        first, second = made[a], made[b]
                        assert isinstance(first, Load) and isinstance(second, Load)
                        same = first.indices == second.indices and _uses(body, a) == _uses(body, b) == 1
                        if same and self._add_to(first, second, operator):
                            body[place] = build.map_stmt(s, _replacing(e, Local(a, e.dtype)))
                            return self.added_up([x for x in body if not (isinstance(x, Let) and x.name == b)])
        return body

    def _is_product(self, e: Expr) -> bool:
        return isinstance(e, Load) and any(e.buffer in writes((s,)) for s in self.nests)

    def _add_to(self, first: Load, second: Load, operator: str) -> bool:
        """Has the product that fills `second` add to `first`, which comes before or is brought there."""
        one, two = (next(i for i, s in enumerate(self.nests) if e.buffer in writes((s,))) for e in (first, second))
        nest = self.nests[two]
        assert isinstance(nest, Nest)

        def change(s: Stmt) -> Stmt:
            if isinstance(s, Let):
                return replace(s, value=first)
            if isinstance(s, Assign) and isinstance(s.value, Binary) and operator == "sub":
                return Assign(s.name, replace(s.value, operator="sub" if s.value.operator == "add" else "add"))
            return Store(first.buffer, first.indices, s.value) if isinstance(s, Store) else s

        added = build.map_innermost(nest, change)
        if self.buffers[first.buffer].shape != self.buffers[second.buffer].shape:
            return False
        if product_of(added, self.buffers, self.shared) is None:
            return False
        del self.buffers[second.buffer]
        self.nests[two] = added
        if two < one:  # what starts the sum comes first
            self.nests.insert(one, self.nests.pop(two))
        return True

    def into_their_place(self, body: list[Stmt], variables: Set[str]) -> list[Stmt]:
        """Nothing, where all that is left is to store a product, which then goes there by itself.

        `variables` are those of the loops around the body.
        """
        match body:
            case [Let(name, Load() as value), Store(out, at, Local(stored))] if name == stored:
                pass
            case _:
                return body
        makers = [i for i, s in enumerate(self.nests) if value.buffer in writes((s,))]

        def change(s: Stmt) -> Stmt:
            if isinstance(s, Store):
                return replace(s, buffer=out, indices=at)
            return build.map_stmt(s, lambda e: Load(out, at, value.dtype) if e == value else None)

        moved = {i: build.map_innermost(self.nests[i], change) for i in makers}
        used = {loop.var for s in moved.values() for loop in build.statements((s,)) if isinstance(loop, For)}
        if not variables <= used or any(product_of(s, self.buffers, self.shared) is None for s in moved.values()):
            return body
        for i, s in moved.items():
            self.nests[i] = s
        del self.buffers[value.buffer]
        return []


def _replacing(old: Expr, new: Expr) -> Callable[[Expr], Expr | None]:
    return lambda e: new if e == old else None


def _uses(body: Sequence[Stmt], name: str) -> int:
    return sum(isinstance(e, Local) and e.name == name for e in build.within(body))
