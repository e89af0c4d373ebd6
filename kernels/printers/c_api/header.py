"""The state struct and the header: the whole interface of a solver in C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

import numpy as np

from unfoldc.kernels.accesses import reads, writes
from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.passes.find_streams import Streams
from unfoldc.kernels.printers.c_api.stream_comments import stream_comments
from unfoldc.kernels.printers.c_api.text import C_TYPES, clean, wrap
from unfoldc.kernels.printers.expressions import round_up

HOST_ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector; the host's workspaces start at a multiple of it."""
NO_STREAMS = Streams()


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
    again = reads(program.end).union(*(reads(s.body) for s in program.steps))
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
    end_writes = any(program.buffers[n].space == "scratch" for n in writes(program.end))
    return StateLayout(pointers, tuple(arrays), scratch, end_writes, arrays_first=alignment > 1)


def _padded(n: int, dtype: str, alignment: int) -> int:
    """Elements, at least `n`, that fill a multiple of `alignment` bytes."""
    size = np.dtype(dtype).itemsize
    return round_up(n * size, max(alignment, size)) // size


def _parameters(program: LoopProgram, begin: bool, restrict: bool = False) -> list[str]:
    """C parameters of begin (inputs) or end (outputs); `restrict` is for definitions, since C++ does not know it."""
    names = program.inputs if begin else program.outputs
    constant, apart = "const " if begin else "", "restrict " if restrict else ""
    buffers = [program.buffers[n] for n in names]
    return [f"{constant}{C_TYPES[b.dtype]} {b.name}[{apart}{max(1, b.size)}]" for b in buffers]


def prototypes(
    symbol: str, program: LoopProgram, layout: StateLayout, restrict: bool = False, streams: Streams = NO_STREAMS
) -> dict[str, str]:
    """The function heads, without semicolon; `restrict` for the definitions in C. With streams there is a `next`."""
    state = f"{symbol}_state *s"
    constant = state if layout.end_writes else f"const {state}"
    inputs, outputs = _parameters(program, True, restrict), _parameters(program, False, restrict)
    heads = {
        "begin": [state, *inputs],
        "iterate": [state],
        "end": [constant, *outputs],
        "solve": [state, *inputs, *outputs],
    }
    if streams.inputs:
        heads["next"] = [state, *slice_parameters(program, streams, restrict)]
    return {name: function_head(f"{symbol}_{name}", parameters) for name, parameters in heads.items()}


def slice_parameters(program: LoopProgram, streams: Streams, restrict: bool, outputs: bool = True) -> list[str]:
    """C parameters for one slice of each stream."""
    apart = "restrict " if restrict else ""
    kinds = {s.name: C_TYPES[program.buffers[s.name].dtype] for s in (*streams.inputs, *streams.outputs)}
    parameters = [f"const {kinds[s.name]} {s.name}[{apart}{s.size}]" for s in streams.inputs]
    return parameters + [f"{kinds[s.name]} {s.name}[{apart}{s.size}]" for s in streams.outputs if outputs]


def function_head(name: str, parameters: Sequence[str]) -> str:
    """`void name(parameters)`, in several lines where it is long."""
    return "\n".join(wrap(f"void {name}({', '.join(parameters)})"))


def header_text(
    symbol: str,
    program: LoopProgram,
    layout: StateLayout,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    streams: Streams = NO_STREAMS,
) -> str:
    """`<symbol>.h`, for C and C++; with `streams` for a solver that has a `next`."""
    heads = prototypes(symbol, program, layout, streams=streams)
    ports = dict(zip(program.inputs + program.outputs, [*inputs, *outputs], strict=True))
    values = {
        "symbol": symbol,
        "iterations": str(program.iterations),
        "ports": "".join(
            f" *   {name}: {clean(port.name)}, {' x '.join(map(str, port.shape)) or 'scalar'}, {port.dtype}\n"
            for name, port in ports.items()
        ),
        "small": str(layout.bytes(4)),
        "large": str(layout.bytes(8)),
        "members": _members(program, layout, streams),
        **{f"about_{name}": text for name, text in stream_comments(streams, ports).items()},
        **heads,
        "next": f"{heads['next']};\n\n" if streams.inputs else "",
    }
    return _HEADER.substitute(values)


def _members(program: LoopProgram, layout: StateLayout, streams: Streams) -> str:
    arrays = [f"    {C_TYPES[dtype]} {member}[{max(1, n)}];\n" for member, dtype, n in layout.arrays]
    others = ["    int32_t k; /* the next iteration, from 0 */\n"]
    slices = {s.name for s in streams.inputs}
    for name in layout.pointers:
        kind = C_TYPES[program.buffers[name].dtype]
        last = "iterate" if name in slices else "iterate or end"
        others.append(f"    const {kind} *{name}; /* must stay in place until the last {last} */\n")
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

/* Prepares a solve.${about_begin} */
${begin};

/* Runs one iteration, that of number s->k; does nothing after the last. */
${iterate};

${about_next}${next}/* Gives the answer after the iterations that have run.${about_end} */
${end};

/* All of it. */
${solve};

#ifdef __cplusplus
}
#endif

#endif
""")
