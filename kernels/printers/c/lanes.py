"""`<symbol>_lanes.h` and `.c`: the same solver for several problems side by side, one per element of a vector."""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.c.functions import Functions
from unfoldc.kernels.printers.c.helpers import Helpers
from unfoldc.kernels.printers.c.lane_expressions import LaneExpressions
from unfoldc.kernels.printers.c.lane_helpers import vector_type
from unfoldc.kernels.printers.c.statements import Statements
from unfoldc.kernels.printers.c_api import StateLayout, state_layout
from unfoldc.kernels.printers.c_api.header import function_head
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


def lane_sources(
    symbol: str, program: LoopProgram, inputs: Sequence[Port], outputs: Sequence[Port], count: int
) -> dict[str, str]:
    """The two files; raises NotVectorisable, which says why, for a program that has no such form."""
    dtype = _only_type(program)
    if any(not port.batched for port in outputs):
        raise NotVectorisable("an output that all problems share")
    shared = {name for name, port in zip(program.inputs, inputs, strict=True) if not port.batched}
    varying = frozenset(n for n, b in program.buffers.items() if b.space != "constant" and n not in shared)
    layout = state_layout(program)
    own = f"{symbol}_lanes"
    helpers = Helpers(own)
    place = {n: f"{symbol}_{n}" if b.space == "constant" else n for n, b in program.buffers.items()}
    expressions = LaneExpressions(program, place, helpers, symbol, varying, dtype)
    heads = _heads(symbol, program, layout, expressions)
    functions = Functions(own, program, layout, heads, Statements(expressions, ""), str(program.iterations))
    bodies = [*functions.begin(), *functions.iterate(), *functions.end()]
    head = [f"/* {symbol} for several problems at a time. Made by unfoldc. */"]
    head += [f'#include "{own}.h"', f'#include "{symbol}_weights.h"', ""]
    return {
        f"{own}.h": _header(symbol, layout, heads, expressions, count),
        f"{own}.c": "\n".join([*head, *helpers.texts(), "", *bodies]),
    }


def _only_type(program: LoopProgram) -> str:
    """The one element type of all values that differ from problem to problem."""
    found = sorted({b.dtype for b in program.buffers.values() if b.space != "constant"})
    if len(found) != 1 or not found[0].startswith("float"):
        raise NotVectorisable(f"values of the types {', '.join(found)}")
    return found[0]


def _heads(symbol: str, program: LoopProgram, layout: StateLayout, expressions: LaneExpressions) -> dict[str, str]:
    state = f"{symbol}_lanes_state *s"
    inputs = [f"const {expressions.element_type(n)} *{n}" for n in program.inputs]
    outputs = [f"{expressions.element_type(n)} *{n}" for n in program.outputs]
    constant = "" if layout.end_writes else "const "
    heads = {"begin": [state, *inputs], "iterate": [state], "end": [constant + state, *outputs]}
    return {name: function_head(f"{symbol}_lanes_{name}", parameters) for name, parameters in heads.items()}


def _header(symbol: str, layout: StateLayout, heads: dict[str, str], expressions: LaneExpressions, count: int) -> str:
    dtype = expressions.dtype
    bits = int(dtype.removeprefix("float"))
    size = count * bits // 8
    members = ["    int32_t k;\n"]
    members += [f"    const {expressions.element_type(name)} *{name};\n" for name in layout.pointers]
    members += [f"    {expressions.vector} {member}[{max(1, n)}];\n" for member, _, n in layout.arrays]
    return _HEADER.substitute(
        heads,
        symbol=symbol,
        count=count,
        kind=C_TYPES[dtype],
        bits=bits,
        vector=vector_type(symbol, dtype),
        mask=vector_type(symbol, dtype, mask=True),
        size=size,
        alignment=min(size, _ALIGNMENT),
        members="".join(members),
    )
