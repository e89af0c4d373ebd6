"""`<symbol>_lanes.h`: several problems side by side, every element a vector with one entry per problem."""

from __future__ import annotations

from dataclasses import dataclass
from string import Template

from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.c_api.header import StateLayout, function_head
from unfoldc.kernels.printers.c_api.text import C_TYPES
from unfoldc.kernels.printers.not_vectorisable import NotVectorisable

_ALIGNMENT = 64  # what the host's workspace has; wider vectors are several registers anyway

_HEADER = Template("""\
/* ${count} problems side by side: every element is a vector with one entry per problem. For the host's driver. */
#ifndef ${symbol}_LANES_H
#define ${symbol}_LANES_H

#include <stdint.h>

#define ${symbol}_LANES ${count}

typedef ${kind} ${vector} __attribute__((vector_size(${size}), aligned(${alignment})));
typedef int${bits}_t ${mask} __attribute__((vector_size(${size}), aligned(${alignment})));

typedef struct ${symbol}_lanes_state {
${members}} ${symbol}_lanes_state;

${begin};
${iterate};
${end};

#endif
""")


def vector_type(symbol: str, dtype: str, mask: bool = False) -> str:
    """The name of the vector type, or of the type of its comparisons; `symbol` is the solver's."""
    return f"{symbol}_{'m' if mask else 'v'}{dtype.removeprefix('float')}"


def only_type(program: LoopProgram) -> str:
    """The one element type of all values that differ from problem to problem; else raises NotVectorisable."""
    found = sorted({b.dtype for b in program.buffers.values() if b.space != "constant"})
    if len(found) != 1 or not found[0].startswith("float"):
        raise NotVectorisable(f"values of the types {', '.join(found)}")
    return found[0]


@dataclass(frozen=True)
class LaneInterface:
    """The interface in C of a solver for `count` problems, in the buffers `varying` of type `dtype`."""

    symbol: str
    program: LoopProgram
    layout: StateLayout
    varying: frozenset[str]
    dtype: str
    count: int

    def element_type(self, buffer: str) -> str:
        """The C type of a buffer's elements."""
        if buffer in self.varying:
            return vector_type(self.symbol, self.dtype)
        return C_TYPES[self.program.buffers[buffer].dtype]

    def heads(self) -> dict[str, str]:
        """The function heads, without semicolon."""
        state = f"{self.symbol}_lanes_state *s"
        inputs = [f"const {self.element_type(n)} *{n}" for n in self.program.inputs]
        outputs = [f"{self.element_type(n)} *{n}" for n in self.program.outputs]
        constant = "" if self.layout.end_writes else "const "
        heads = {"begin": [state, *inputs], "iterate": [state], "end": [constant + state, *outputs]}
        return {name: function_head(f"{self.symbol}_lanes_{name}", parameters) for name, parameters in heads.items()}

    def header(self) -> str:
        """The whole file."""
        bits = int(self.dtype.removeprefix("float"))
        size = self.count * bits // 8
        vector = vector_type(self.symbol, self.dtype)
        members = ["    int32_t k;\n"]
        members += [f"    const {self.element_type(name)} *{name};\n" for name in self.layout.pointers]
        members += [f"    {vector} {member}[{max(1, n)}];\n" for member, _, n in self.layout.arrays]
        return _HEADER.substitute(
            self.heads(),
            symbol=self.symbol,
            count=self.count,
            kind=C_TYPES[self.dtype],
            bits=bits,
            vector=vector,
            mask=vector_type(self.symbol, self.dtype, mask=True),
            size=size,
            alignment=min(size, _ALIGNMENT),
            members="".join(members),
        )
