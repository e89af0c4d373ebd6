"""How an element of a buffer is written, by the place where the buffer lives."""

from __future__ import annotations

from dataclasses import dataclass

from unfoldc.kernels.gpu.mapping import Mapped
from unfoldc.kernels.gpu.places import GIVEN, element_type
from unfoldc.kernels.index_bounds import linear
from unfoldc.kernels.loops import Binary, Cast, Const, Expr
from unfoldc.kernels.printers.cuda.arguments import Arguments
from unfoldc.kernels.printers.expressions import bounded, flatten, simplify, strided
from unfoldc.kernels.printers.python_text import Names

OWN = "own "
"""In front of the name of a buffer whose index is the place among what a lane keeps of it."""


@dataclass(frozen=True)
class Positions:
    """Where elements of the buffers of a kernel are."""

    mapped: Mapped
    arguments: Arguments
    names: Names

    def own(self, buffer: str, indices: tuple[Expr, ...], turn: Expr) -> tuple[str, tuple[Expr, ...]] | None:
        """Where a lane keeps an element in the round `turn` of shared runs, if it has elements of the buffer itself."""
        facts, place = self.mapped.buffers[buffer], self.mapped.places[buffer]
        if place.kind != "lane":
            return None
        assert place.owner is not None
        indices = bounded(indices, facts.shape)
        rest = [a for a in range(len(facts.shape)) if a not in place.owner.axes]
        shape = [facts.shape[a] for a in rest]
        size = 1
        for n in shape:
            size *= n
        first = Binary("mul", turn, Const(size, "int32"), "int32")
        return OWN + buffer, (folded(Binary("add", first, flatten([indices[a] for a in rest], shape), "int32")),)

    def memory(self, buffer: str, indices: tuple[Expr, ...]) -> tuple[str, Expr, str]:
        """The array, the place in it, and the name of a number to be added to the place ("" for none)."""
        if buffer.startswith(OWN):
            return self.names(buffer.removeprefix(OWN), "buffer"), indices[0], ""
        mapped = self.mapped
        facts, place = mapped.buffers[buffer], mapped.places[buffer]
        indices = bounded(indices, facts.shape)
        dtype = element_type(facts.dtype)
        if place.kind == "copy":
            return self.names(buffer, "buffer"), folded(flatten(indices, facts.shape)), ""
        if place.kind == "given":
            return self._given(buffer, indices)
        position = _sum(strided(indices, place.strides), Const(place.offset, "int32"))
        kind = "work" if place.kind == "work" else "shared"
        several = mapped.choices.problems > 1 and place.kind != "block"
        return f"{kind}_{dtype}", position, f"{kind}_first_{dtype}" if several else ""

    def _given(self, buffer: str, indices: tuple[Expr, ...]) -> tuple[str, Expr, str]:
        name = buffer.removeprefix(GIVEN) if buffer not in self.mapped.program.buffers else buffer
        facts = self.mapped.program.buffers[name]
        flat = flatten(indices, facts.shape)
        if facts.space == "constant":
            dtype = element_type(facts.dtype)
            return f"weights_{dtype}", _sum(flat, Const(self.arguments.weights[dtype][1][name], "int32")), ""
        array = self.arguments.array(name)
        return array, flat, f"first_{array}" if self.arguments.ports[name].batched else ""


def _sum(a: Expr, b: Expr) -> Expr:
    dtype = "int64" if "int64" in (a.dtype, b.dtype) else "int32"
    return folded(Binary("add", Cast(a, dtype), Cast(b, dtype), dtype))


def folded(e: Expr) -> Expr:
    """A sum with its constants as one, at the end; other expressions simplified."""
    form = linear(e)
    if e.dtype != "int32" or any(x.dtype != "int32" for x in form.terms):
        return simplify(e)
    total: Expr = Const(0, e.dtype)
    for term, factor in form.moving.items():
        total = Binary("add", total, Binary("mul", term, Const(factor, e.dtype), e.dtype), e.dtype)
    return simplify(Binary("add", total, Const(form.constant, e.dtype), e.dtype))
