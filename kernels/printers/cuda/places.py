"""How an element of a buffer is written, by the place where the buffer lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unfoldc.kernels.gpu.copies import GIVEN
from unfoldc.kernels.gpu.mapping import Mapped
from unfoldc.kernels.gpu.places import element_type
from unfoldc.kernels.loops import Binary, Cast, Const, Expr
from unfoldc.kernels.printers.cuda.arguments import Arguments
from unfoldc.kernels.printers.expressions import bounded, flatten, simplify
from unfoldc.kernels.printers.python_text import Names


@dataclass(frozen=True)
class Positions:
    """Where elements of the buffers of a kernel are."""

    mapped: Mapped
    arguments: Arguments
    names: Names

    def memory(self, buffer: str, indices: tuple[Expr, ...], turn: Expr) -> tuple[str, Expr, str]:
        """The array, the place in it, and the name of a number to be added to the place ("" for none).

        `turn` is the number of the round in which the lanes' shared runs are.
        """
        mapped = self.mapped
        facts, place = mapped.buffers[buffer], mapped.places[buffer]
        indices = bounded(indices, facts.shape)
        dtype = element_type(facts.dtype)
        if place.kind == "lane":
            assert place.owner is not None
            rest = [a for a in range(len(facts.shape)) if a not in place.owner.axes]
            shape = [facts.shape[a] for a in rest]
            size = 1
            for n in shape:
                size *= n
            first = Binary("mul", turn, Const(size, "int32"), "int32")
            inside = flatten([indices[a] for a in rest], shape)
            return self.names(buffer, "buffer"), _sum(first, inside), ""
        if place.kind == "copy":
            return self.names(buffer, "buffer"), flatten(indices, facts.shape), ""
        if place.kind == "given":
            return self._given(buffer, indices)
        position = _sum(_strided(indices, place.strides), Const(place.offset, "int32"))
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


def _strided(indices: Sequence[Expr], strides: Sequence[int]) -> Expr:
    dtype = "int64" if any(i.dtype == "int64" for i in indices) else "int32"
    total: Expr = Const(0, dtype)
    for index, stride in zip(indices, strides, strict=True):
        total = Binary("add", total, Binary("mul", Cast(index, dtype), Const(stride, dtype), dtype), dtype)
    return simplify(total)


def _sum(a: Expr, b: Expr) -> Expr:
    dtype = "int64" if "int64" in (a.dtype, b.dtype) else "int32"
    return simplify(Binary("add", Cast(a, dtype), Cast(b, dtype), dtype))
