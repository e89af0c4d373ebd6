"""The state struct and the header: the whole interface of a solver in C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import Load, LoopProgram, Stmt
from unfoldc.kernels.printers.c_api.text import C_TYPES, clean
from unfoldc.kernels.printers.expressions import buffers_written, round_up


@dataclass(frozen=True)
class StateLayout:
    """Members of the state struct, in order.

    pointers: inputs that iterate or end read again; arrays: (member, element type, length). `scratch` maps a scratch
    buffer to its member and element offset. `end_writes`: `end` needs scratch, so that its state is not const.
    """

    pointers: tuple[str, ...]
    arrays: tuple[tuple[str, str, int], ...]
    scratch: dict[str, tuple[str, int]]
    end_writes: bool

    def bytes(self, word: int = 4) -> int:
        """Size of the struct for pointers of `word` bytes, padding included."""
        members = [(4, 4)] + [(word, word)] * len(self.pointers)
        members += [(np.dtype(d).itemsize, np.dtype(d).itemsize * max(1, n)) for _, d, n in self.arrays]
        size = 0
        for align, length in members:
            size = round_up(size, align) + length
        return round_up(size, max(align for align, _ in members))


def state_layout(program: LoopProgram) -> StateLayout:
    """Lays out the state: iteration counter, input pointers, states, one scratch arena per element type."""
    again = loaded(program.end).union(*(loaded(s.body) for s in program.steps))
    pointers = tuple(name for name in program.inputs if name in again)
    arrays = [(b.name, b.dtype, b.size) for b in program.buffers.values() if b.space == "state"]
    scratch: dict[str, tuple[str, int]] = {}
    own = [b for b in program.buffers.values() if b.space == "scratch"]
    for dtype in sorted({b.dtype for b in own}):
        member, size = f"scratch_{dtype}", np.dtype(dtype).itemsize
        region = [b for b in own if b.dtype == dtype]
        start = min(program.scratch_offsets[b.name] for b in region)
        for b in region:
            scratch[b.name] = (member, (program.scratch_offsets[b.name] - start) // size)
        arrays.append((member, dtype, max(scratch[b.name][1] + b.size for b in region)))
    writes = any(program.buffers[n].space == "scratch" for n in buffers_written(program.end))
    return StateLayout(pointers, tuple(arrays), scratch, writes)


def loaded(body: Sequence[Stmt]) -> frozenset[str]:
    """The buffers that a body reads."""
    return frozenset(
        e.buffer for s in body for top in build.expressions(s) for e in build.walk(top) if isinstance(e, Load)
    )


def parameters(program: LoopProgram, begin: bool, restrict: bool = False) -> list[str]:
    """C parameters of begin (inputs) or end (outputs); `restrict` is for definitions, since C++ does not know it."""
    names = program.inputs if begin else program.outputs
    constant, apart = "const " if begin else "", "restrict " if restrict else ""
    buffers = [program.buffers[n] for n in names]
    return [f"{constant}{C_TYPES[b.dtype]} {b.name}[{apart}{max(1, b.size)}]" for b in buffers]


def prototypes(symbol: str, program: LoopProgram, layout: StateLayout, restrict: bool = False) -> dict[str, str]:
    """The four function heads, without semicolon; `restrict` for the definitions in C."""
    state = f"{symbol}_state *s"
    constant = state if layout.end_writes else f"const {state}"
    inputs, outputs = parameters(program, True, restrict), parameters(program, False, restrict)
    return {
        "begin": f"void {symbol}_begin({', '.join([state, *inputs])})",
        "iterate": f"void {symbol}_iterate({state})",
        "end": f"void {symbol}_end({', '.join([constant, *outputs])})",
        "solve": f"void {symbol}_solve({', '.join([state, *inputs, *outputs])})",
    }


def header_text(
    symbol: str, program: LoopProgram, layout: StateLayout, inputs: Sequence[Port], outputs: Sequence[Port]
) -> str:
    """`<symbol>.h`, for C and C++."""
    heads = prototypes(symbol, program, layout)
    values = {
        "symbol": symbol,
        "iterations": str(program.iterations),
        "ports": "".join(
            f" *   {name}: {clean(port.name)}, {' x '.join(map(str, port.shape)) or 'scalar'}, {port.dtype}\n"
            for name, port in zip(program.inputs + program.outputs, [*inputs, *outputs], strict=True)
        ),
        "small": str(layout.bytes(4)),
        "large": str(layout.bytes(8)),
        "members": _members(program, layout),
        **heads,
    }
    return _HEADER.substitute(values)


def _members(program: LoopProgram, layout: StateLayout) -> str:
    lines = ["    int32_t k; /* the next iteration, from 0 */\n"]
    for name in layout.pointers:
        kind = C_TYPES[program.buffers[name].dtype]
        lines.append(f"    const {kind} *{name}; /* must stay in place until the last iterate or end */\n")
    for member, dtype, n in layout.arrays:
        lines.append(f"    {C_TYPES[dtype]} {member}[{max(1, n)}];\n")
    return "".join(lines)


_HEADER = Template("""\
/* An unfolded solver of ${iterations} iterations, for one problem at a time. Made by unfoldc.
${ports} * Arrays are row by row and must not overlap. No heap, no globals but constants: with a state of its own,
 * each thread may solve. */
#ifndef ${symbol}_H
#define ${symbol}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ${symbol}_ITERATIONS ${iterations}

/* Everything a solve needs; yours to place. ${small} bytes where pointers have 4 bytes, ${large} where they have 8. */
typedef struct ${symbol}_state {
${members}} ${symbol}_state;

/* Prepares a solve. */
${begin};

/* Runs one iteration, that of number s->k; does nothing after the last. */
${iterate};

/* Gives the answer after the iterations that have run. */
${end};

/* All of it. */
${solve};

#ifdef __cplusplus
}
#endif

#endif
""")
