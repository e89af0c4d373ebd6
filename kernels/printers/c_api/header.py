"""The state struct and the header: the whole interface of a solver in C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import Load, LoopProgram, Stmt, Store
from unfoldc.kernels.printers.c_api.text import C_TYPES, clean


@dataclass(frozen=True)
class StateLayout:
    """Members of the state struct, in order.

    pointers: inputs that iterate or end read again; arrays: (member, element type, length). `scratch` maps a scratch
    buffer to its member and element offset. `end_writes` is true if `end` needs scratch, so that its state is not const.
    """

    pointers: tuple[str, ...]
    arrays: tuple[tuple[str, str, int], ...]
    scratch: dict[str, tuple[str, int]]
    end_writes: bool

    def bytes(self, word: int = 4) -> int:
        """Size of the struct for pointers of `word` bytes, padding included."""
        size, widest = (
            4,
            max([4, *(np.dtype(d).itemsize for _, d, _ in self.arrays), *([word] if self.pointers else [])]),
        )
        members = [(word, word)] * len(self.pointers) + [
            (np.dtype(d).itemsize, np.dtype(d).itemsize * n) for _, d, n in self.arrays
        ]
        for align, length in members:
            size = -(-size // align) * align + length
        return -(-size // widest) * widest


def state_layout(program: LoopProgram) -> StateLayout:
    """Lays out the state: iteration counter, input pointers, states, one scratch arena per element type."""
    again: set[str] = set()
    for body in (*(s.body for s in program.steps), program.end):
        again |= _loaded(body)
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
    writes = any(
        isinstance(s, Store) and program.buffers[s.buffer].space == "scratch" for s in build.statements(program.end)
    )
    return StateLayout(pointers, tuple(arrays), scratch, writes)


def _loaded(body: Sequence[Stmt]) -> set[str]:
    return {e.buffer for s in body for top in build.expressions(s) for e in build.walk(top) if isinstance(e, Load)}


def parameters(program: LoopProgram, begin: bool) -> list[str]:
    """C parameters of begin (inputs) or end (outputs)."""
    names = program.inputs if begin else program.outputs
    qualifier = "const " if begin else ""
    return [
        f"{qualifier}{C_TYPES[program.buffers[n].dtype]} {n}[{max(1, program.buffers[n].size)}]" for n in names
    ]  # fmt: skip


def prototypes(symbol: str, program: LoopProgram, layout: StateLayout) -> dict[str, str]:
    """The four function heads, without semicolon."""
    state = f"{symbol}_state *s"
    constant = state if layout.end_writes else f"const {state}"
    inputs, outputs = parameters(program, True), parameters(program, False)
    return {
        "begin": f"void {symbol}_begin({', '.join([state, *inputs])})",
        "iterate": f"void {symbol}_iterate({state})",
        "end": f"void {symbol}_end({', '.join([constant, *outputs])})",
        "solve": f"void {symbol}_solve({', '.join([state, *inputs, *outputs])})",
    }


def header_text(
    symbol: str, program: LoopProgram, layout: StateLayout, inputs: Sequence[Port], outputs: Sequence[Port]
) -> str:
    """`<symbol>.h`."""
    heads = prototypes(symbol, program, layout)
    guard = f"{symbol.upper()}_H"
    lines = [
        f"/* An unfolded solver of {program.iterations} iterations, for one problem at a time. Made by unfoldc. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "#include <stdint.h>",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        f"#define {symbol}_ITERATIONS {program.iterations}",
        "",
    ]
    for name, port in zip(program.inputs + program.outputs, [*inputs, *outputs], strict=True):
        lines.append(f"/* {name}: {clean(port.name)} {list(port.shape)} {port.dtype} */")
    lines += [
        "",
        "/* Everything a solve needs; yours to place, one per solve that runs at the same time. */",
        "typedef struct {",
    ]
    lines.append("    int32_t k; /* the next iteration, from 0 */")
    for name in layout.pointers:
        lines.append(f"    const {C_TYPES[program.buffers[name].dtype]} *{name}; /* must stay in place until end */")
    for member, dtype, n in layout.arrays:
        lines.append(f"    {C_TYPES[dtype]} {member}[{max(1, n)}];")
    lines += [
        f"}} {symbol}_state;",
        "",
        "/* Prepares a solve. */",
        heads["begin"] + ";",
        f"/* Runs one iteration; does nothing after the last, {symbol}_ITERATIONS. */",
        heads["iterate"] + ";",
        "/* Gives the answer after the iterations that have run. */",
        heads["end"] + ";",
        "/* All of it. */",
        heads["solve"] + ";",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "#endif",
        "",
    ]
    return "\n".join(lines)
