"""The state struct and the header: the whole interface of a solver in C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import Load, LoopProgram, Stmt
from unfoldc.kernels.printers.c_api.text import C_TYPES, clean, wrap
from unfoldc.kernels.printers.expressions import buffers_written, round_up

HOST_ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector; the host's workspaces start at a multiple of it."""


@dataclass(frozen=True)
class StateLayout:
    """Members of the state struct, in order.

    pointers: inputs that iterate or end read again; arrays: (member, element type, length). `scratch` maps a scratch
    buffer to its member and element offset. `end_writes`: `end` needs scratch, so that its state is not const.
    `arrays_first`: the arrays stand before all else, so that an aligned state has aligned arrays.
    """

    pointers: tuple[str, ...]
    arrays: tuple[tuple[str, str, int], ...]
    scratch: dict[str, tuple[str, int]]
    end_writes: bool
    arrays_first: bool = False

    def bytes(self, word: int = 4) -> int:
        """Size of the struct for pointers of `word` bytes, padding included."""
        arrays = [(np.dtype(d).itemsize, np.dtype(d).itemsize * max(1, n)) for _, d, n in self.arrays]
        others = [(4, 4)] + [(word, word)] * len(self.pointers)
        members = arrays + others if self.arrays_first else others + arrays
        size = 0
        for align, length in members:
            size = round_up(size, align) + length
        return round_up(size, max(align for align, _ in members))


def state_layout(program: LoopProgram, alignment: int = 1) -> StateLayout:
    """Lays out the state: iteration counter, input pointers, states, one scratch arena per element type.

    With `alignment` in bytes, each array starts at a multiple of it in a state that does; arrays are padded for that.
    """
    again = loaded(program.end).union(*(loaded(s.body) for s in program.steps))
    pointers = tuple(name for name in program.inputs if name in again)
    arrays = [
        (b.name, b.dtype, _padded(b.size, b.dtype, alignment)) for b in program.buffers.values() if b.space == "state"
    ]
    scratch: dict[str, tuple[str, int]] = {}
    own = [b for b in program.buffers.values() if b.space == "scratch"]
    for dtype in sorted({b.dtype for b in own}):
        member, size = f"scratch_{dtype}", np.dtype(dtype).itemsize
        region = [b for b in own if b.dtype == dtype]
        start = min(program.scratch_offsets[b.name] for b in region)
        for b in region:
            scratch[b.name] = (member, (program.scratch_offsets[b.name] - start) // size)
        arrays.append((member, dtype, _padded(max(scratch[b.name][1] + b.size for b in region), dtype, alignment)))
    writes = any(program.buffers[n].space == "scratch" for n in buffers_written(program.end))
    return StateLayout(pointers, tuple(arrays), scratch, writes, arrays_first=alignment > 1)


def _padded(n: int, dtype: str, alignment: int) -> int:
    """Elements, at least `n`, that fill a multiple of `alignment` bytes."""
    size = np.dtype(dtype).itemsize
    return round_up(n * size, max(alignment, size)) // size


def loaded(body: Sequence[Stmt]) -> frozenset[str]:
    """The buffers that a body reads."""
    return frozenset(
        e.buffer for s in body for top in build.expressions(s) for e in build.walk(top) if isinstance(e, Load)
    )


def _parameters(program: LoopProgram, begin: bool, restrict: bool = False) -> list[str]:
    """C parameters of begin (inputs) or end (outputs); `restrict` is for definitions, since C++ does not know it."""
    names = program.inputs if begin else program.outputs
    constant, apart = "const " if begin else "", "restrict " if restrict else ""
    buffers = [program.buffers[n] for n in names]
    return [f"{constant}{C_TYPES[b.dtype]} {b.name}[{apart}{max(1, b.size)}]" for b in buffers]


def prototypes(symbol: str, program: LoopProgram, layout: StateLayout, restrict: bool = False) -> dict[str, str]:
    """The four function heads, without semicolon; `restrict` for the definitions in C."""
    state = f"{symbol}_state *s"
    constant = state if layout.end_writes else f"const {state}"
    inputs, outputs = _parameters(program, True, restrict), _parameters(program, False, restrict)
    heads = {
        "begin": [state, *inputs],
        "iterate": [state],
        "end": [constant, *outputs],
        "solve": [state, *inputs, *outputs],
    }
    return {name: function_head(f"{symbol}_{name}", parameters) for name, parameters in heads.items()}


def function_head(name: str, parameters: Sequence[str]) -> str:
    """`void name(parameters)`, in several lines where it is long."""
    return "\n".join(wrap(f"void {name}({', '.join(parameters)})"))


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
    arrays = [f"    {C_TYPES[dtype]} {member}[{max(1, n)}];\n" for member, dtype, n in layout.arrays]
    others = ["    int32_t k; /* the next iteration, from 0 */\n"]
    for name in layout.pointers:
        kind = C_TYPES[program.buffers[name].dtype]
        others.append(f"    const {kind} *{name}; /* must stay in place until the last iterate or end */\n")
    return "".join(arrays + others if layout.arrays_first else others + arrays)


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

/* Everything a solve needs, for you to place: ${small} bytes with pointers of 4 bytes, ${large} with 8. */
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
