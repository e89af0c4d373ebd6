"""Takes the products out of one nest: each is a nest in front of it, whose results the nest then reads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from unfoldc.kernels import build
from unfoldc.kernels.gpu.join_products import Products
from unfoldc.kernels.gpu.parallel import parallel_loops
from unfoldc.kernels.gpu.product import Term, product_of, term_of
from unfoldc.kernels.loops import Assign, Binary, Buffer, Const, Expr, For, Let, Load, Local, Nest, Stmt, Store, Var
from unfoldc.kernels.passes.fuse_results import chain


@dataclass
class NestProducts:
    """The work on one nest; `before` collects what goes in front of it. New buffers are added to `buffers`.

    `shared` and `least` as for `split_products`.
    """

    buffers: dict[str, Buffer]
    shared: Collection[str]
    least: int
    origins: tuple[str, ...] = ()
    loops: list[For] = field(default_factory=list)
    before: list[Stmt] = field(default_factory=list)

    def split(self, s: Stmt) -> list[Stmt]:
        """The statements that take the place of a nest."""
        loops = chain(s)
        if loops is None or len(parallel_loops((loops[0],), {})) < len(loops):
            return [s]
        self.origins, self.loops = s.origins if isinstance(s, Nest) else (), loops
        body: list[Stmt] = []
        for inner in loops[-1].body:
            term = term_of(inner, self.shared)
            at = self._product(inner, term) if term is not None and isinstance(inner, For) else None
            if term is None or at is None:
                body.append(inner)
            else:
                body.append(Assign(term.sum, Binary("add", Local(term.sum, term.w.dtype), at, term.w.dtype)))
        if not self.before:
            return [s]
        products = Products(self.before, self.buffers, self.shared)
        rest = products.into_their_place(products.added_up(_plain(body)), {loop.var for loop in loops})
        return [*self.before, *([Nest(self.origins, build.around(loops, tuple(rest)))] if rest else [])]

    def _product(self, loop: For, term: Term) -> Load | None:
        """Puts the product of a sum in front; where its results are read. None where it is to stay.

        The runs of the nest's loops are independent, so that none reads in a sum what another one writes.
        """
        results = [r for r in self.loops if Var(r.var) in build.walk(term.w)]
        parts = [e for top in (term.x, *(s.value for s in term.before)) for e in build.walk(top)]
        own = {s.name for s in term.before}
        loads = {e.buffer for e in parts if isinstance(e, Load)}
        if len(results) != 1 or Var(results[0].var) in parts or loads <= set(self.shared):
            return None
        if any(isinstance(e, Local) and e.name not in own for e in parts):
            return None
        (i,) = results
        if not isinstance(i.extent, int) or not isinstance(loop.extent, int) or i.extent * loop.extent < self.least:
            return None
        leads = [r for r in self.loops if r is not i and Var(r.var) in parts]
        name = self._fresh("p", [*leads, i], term.w.dtype)
        at = Load(name, tuple(Var(r.var) for r in (*leads, i)), term.w.dtype)
        nest = self._nest(leads, i, loop, term, term.x, at)
        if term.before or product_of(nest, self.buffers, self.shared) is None:
            copied = Load(
                self._fresh("x", [*leads, loop], term.w.dtype), tuple(Var(r.var) for r in (*leads, loop)), term.w.dtype
            )  # fmt: skip
            nest = self._nest(leads, i, loop, term, copied, at)
            if product_of(nest, self.buffers, self.shared) is None:
                return None
            fill: tuple[Stmt, ...] = (*term.before, Store(copied.buffer, copied.indices, term.x))
            self.before.append(Nest(self.origins, build.around([*leads, loop], fill)))
        self.before.append(nest)
        return at

    def _nest(self, leads: Sequence[For], i: For, loop: For, term: Term, x: Expr, at: Load) -> Nest:
        acc = Local(term.sum, at.dtype)
        operator = "add" if term.sign > 0 else "sub"
        step = Assign(term.sum, Binary(operator, acc, Binary("mul", x, term.w, at.dtype), at.dtype))
        total = (
            Let(term.sum, Const(0.0, at.dtype), mutable=True),
            replace(loop, body=(step,)),
            Store(at.buffer, at.indices, acc),
        )
        return Nest(self.origins, build.around([*leads, i], total))

    def _fresh(self, prefix: str, loops: Sequence[For], dtype: str) -> str:
        number = 0
        while f"{prefix}{number}" in self.buffers:
            number += 1
        name = f"{prefix}{number}"
        shape = tuple(loop.extent for loop in loops if isinstance(loop.extent, int))
        self.buffers[name] = Buffer(name, dtype, shape, "scratch")
        return name


def _plain(body: Sequence[Stmt]) -> list[Stmt]:
    """A sum that starts from 0 and to which one product is added is that product."""
    result: list[Stmt] = []
    changed = [s.name for s in build.statements(tuple(body)) if isinstance(s, Assign)]
    for s in body:
        match s:
            case Assign(name, Binary("add", Local(), Load() as value)) if changed.count(name) == 1 and result:
                before = result[-1]
                if isinstance(before, Let) and before.name == name and before.value == Const(0.0, value.dtype):
                    result[-1] = Let(name, value)
                    continue
        result.append(s)
    return result
