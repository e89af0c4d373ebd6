"""How an element of a buffer is written in TVM's script, by the place where the buffer lives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from unfoldc.kernels.gpu.mapping import Mapped
from unfoldc.kernels.gpu.places import GIVEN, element_type
from unfoldc.kernels.loops import Binary, Cast, Const, Expr
from unfoldc.kernels.printers.cuda.arguments import Arguments
from unfoldc.kernels.printers.expressions import bounded, flatten, simplify, strided
from unfoldc.kernels.printers.python_text import Names


@dataclass(frozen=True)
class Elements:
    """Prints the elements of a kernel's buffers."""

    mapped: Mapped
    arguments: Arguments
    names: Names

    def text(self, buffer: str, indices: tuple[Expr, ...], turn: Expr, text: Callable[[Expr], str]) -> str:
        """An element; `turn` is the number of the round in which the lanes' shared runs are."""
        facts, place = self.mapped.buffers[buffer], self.mapped.places[buffer]
        indices = bounded(indices, facts.shape)
        dtype = element_type(facts.dtype)
        if place.kind == "lane":
            assert place.owner is not None
            rest = [a for a in range(len(facts.shape)) if a not in place.owner.axes]
            shape = [facts.shape[a] for a in rest]
            first = Binary("mul", turn, Const(math.prod(shape), "int32"), "int32")
            return f"{self.names(buffer, 'buffer')}[{text(_sum(first, flatten([indices[a] for a in rest], shape)))}]"
        if place.kind == "copy":
            return f"{self.names(buffer, 'buffer')}[{text(flatten(indices, facts.shape))}]"
        if place.kind == "given":
            return self._given(buffer, indices, text)
        position = _sum(strided(indices, place.strides), Const(place.offset, "int32"))
        if place.kind == "work":
            return f"work_{dtype}[work_first_{dtype} + {text(simplify(Cast(position, 'int64')))}]"
        several = self.mapped.choices.problems > 1 and place.kind != "block"
        first_text = f"shared_first_{dtype} + " if several else ""
        return f"shared_{dtype}[{first_text}{text(position)}]"

    def _given(self, buffer: str, indices: tuple[Expr, ...], text: Callable[[Expr], str]) -> str:
        """Batches may have more elements than int32 counts."""
        name = buffer.removeprefix(GIVEN) if buffer not in self.mapped.program.buffers else buffer
        facts = self.mapped.program.buffers[name]
        flat = flatten(indices, facts.shape)
        if facts.space == "constant":
            dtype = element_type(facts.dtype)
            return f"weights_{dtype}[{text(_sum(flat, Const(self.arguments.weights[dtype][1][name], 'int32')))}]"
        array = self.arguments.array(name)
        if not self.arguments.ports[name].batched:
            return f"{array}[{text(flat)}]"
        return f"{array}[first_{array} + {text(simplify(Cast(flat, 'int64')))}]"


def _sum(a: Expr, b: Expr) -> Expr:
    dtype = "int64" if "int64" in (a.dtype, b.dtype) else "int32"
    return simplify(Binary("add", Cast(a, dtype), Cast(b, dtype), dtype))
