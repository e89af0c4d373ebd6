"""Loop programs as C99: `<symbol>.c`, and for the host a driver and a form for several problems side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.passes.find_streams import Streams, find_streams, take_slices
from unfoldc.kernels.printers.c.expressions import Expressions
from unfoldc.kernels.printers.c.functions import Functions
from unfoldc.kernels.printers.c.helpers import Helpers
from unfoldc.kernels.printers.c.lanes import lane_sources
from unfoldc.kernels.printers.c.load_multiple import LoadMultiple
from unfoldc.kernels.printers.c.statements import Statements
from unfoldc.kernels.printers.c.vector_comparisons import HELIUM
from unfoldc.kernels.printers.c.vectors import Vectors
from unfoldc.kernels.printers.c_api import (
    HOST_ALIGNMENT,
    StateLayout,
    header_text,
    host_driver_text,
    state_layout,
    weights_texts,
)
from unfoldc.kernels.printers.c_api.header import prototypes
from unfoldc.kernels.printers.not_vectorisable import NotVectorisable

# Compilers trust `restrict` on parameters only, so loops over arrays known to be apart say it themselves.
_VECTOR_MARK = """\
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed"
#define @ _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define @ _Pragma("GCC ivdep")
#else
#define @
#endif
"""
_GUARDED_MARK = f"#if {HELIUM}\n#define @\n#elif {_VECTOR_MARK.removeprefix('#if ')}"

# Told that sums may be reordered, compilers form all products first and put them aside where registers are few.
_IN_ORDER = """\
#if defined(__clang__)
#pragma clang fp reassociate(off)
#endif
"""

_ROLLED_MARK = """\
#if defined(__clang__)
#define @ _Pragma("clang loop unroll(disable)")
#else
#define @
#endif
"""

# For a compiler that would load early and put aside in memory what it loaded.
_ROUND_MARK = """\
#if defined(__GNUC__)
#define @ __asm__ volatile("" ::: "memory")
#else
#define @ ((void)0)
#endif
"""


# For a compiler that would compute in another order, for which registers do not suffice.
_HERE_MARK = """\
#if defined(__GNUC__) && defined(__riscv_flen)
#define @(x) __asm__ volatile("" : "+f"(x) : : "memory")
#elif defined(__GNUC__) && defined(__arm__) && defined(__ARM_FP)
#define @(x) __asm__ volatile("" : "+t"(x) : : "memory")
#else
#define @(x) ((void)0)
#endif
"""

# For a compiler that would read a constant early, since it knows that nothing changes it.
_AT_MARK = """\
#if defined(__GNUC__)
#define @(x) __asm__ volatile("" : "+r"(x))
#else
#define @(x) ((void)0)
#endif
"""


@dataclass(frozen=True)
class _Dialect:
    """What kind of C: see `c_sources`. `freestanding`: without a C library."""

    freestanding: bool
    in_order: bool
    load_multiple: bool
    guarded: bool


def c_sources(
    symbol: str,
    program: LoopProgram,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    host: bool,
    lanes: LoopProgram | None = None,
    lane_count: int = 0,
    in_order: bool = False,
    load_multiple: bool = False,
    guarded: bool = False,
) -> tuple[dict[str, str], str]:
    """All source files, and why there is no form for several problems (empty if there is one or none was asked for).

    With `host` there is a driver for this machine's loader, and a C library is taken for granted; without, functions
    that compilers lack on bare metal are printed too. `lanes` is the same solver scheduled for `lane_count` problems
    side by side; both share the weights. `in_order`: sums are added up in the order that is written.
    `load_multiple`: scalars that were made to be read together are. `guarded`: comparisons of vectors are right on
    Arm's Helium, too (`vector_comparisons.py`).
    """
    alignment = HOST_ALIGNMENT if host else 1
    layout, streams = state_layout(program, alignment), find_streams(program)
    sources = {f"{symbol}.h": header_text(symbol, program, layout, inputs, outputs, streams)}
    sources.update(weights_texts(symbol, program, alignment))
    dialect = _Dialect(not host, in_order, load_multiple, guarded)
    sources[f"{symbol}.c"] = _solver_text(symbol, program, layout, streams, dialect)
    reason, used = "", 0
    if lanes is not None and lane_count > 1:
        try:
            sources.update(lane_sources(symbol, lanes, inputs, outputs, lane_count))
            used = lane_count
        except NotVectorisable as error:
            reason = str(error)
    if host:
        sources[f"{symbol}_host.c"] = host_driver_text(symbol, program, inputs, outputs, used)
    return sources, reason


def _solver_text(
    symbol: str,
    program: LoopProgram,
    layout: StateLayout,
    streams: Streams,
    dialect: _Dialect,
) -> str:
    helpers = Helpers(symbol, dialect.freestanding)
    place = {n: f"{symbol}_{n}" if b.space == "constant" else n for n, b in program.buffers.items()}
    mark = f"{symbol}_VECTOR"
    heads = prototypes(symbol, program, layout, restrict=True, streams=streams)
    sliced = take_slices(program, streams.inputs)
    vectors = Vectors(symbol, sliced, dialect.freestanding, dialect.guarded)
    loads = LoadMultiple(symbol, sliced.buffers) if dialect.load_multiple else None
    rounds = f"{symbol}_ROUND" if dialect.in_order and not dialect.load_multiple else ""
    statements = Statements(
        Expressions(sliced, place, helpers), mark, vectors,
        loads=loads, rolled_mark=f"{symbol}_ROLLED", round_mark=rounds, numbers=dialect.freestanding,
        here_mark=f"{symbol}_HERE",
    )  # fmt: skip
    functions = Functions(symbol, sliced, layout, heads, statements, f"{symbol}_ITERATIONS", streams)
    bodies = [*functions.begin(), *functions.iterate(), *functions.end(), *functions.solve()]
    head = [f"/* {symbol}: {program.iterations} iterations. Made by unfoldc. */"]
    head += ["#include <stddef.h>"] if streams.outputs else []  # for NULL
    head += [f'#include "{symbol}.h"', f'#include "{symbol}_weights.h"', ""]
    head += [*_IN_ORDER.splitlines(), ""] if dialect.in_order else []
    if statements.rounds:
        head += [*_ROUND_MARK.replace("@", rounds).splitlines(), ""]
    if statements.placed:
        head += [*_HERE_MARK.replace("@", f"{symbol}_HERE").splitlines(), ""]
    if statements.hides:
        head += [*_AT_MARK.replace("@", f"{symbol}_HERE_AT").splitlines(), ""]
    if statements.rolled_loops:
        head += [*_ROLLED_MARK.replace("@", f"{symbol}_ROLLED").splitlines(), ""]
    if statements.vector_loops:
        head += [*(_GUARDED_MARK if dialect.guarded else _VECTOR_MARK).replace("@", mark).splitlines(), ""]
    needed = [*helpers.texts(), *vectors.texts(), *(loads.texts() if loads is not None else [])]
    return "\n".join([*head, *needed, *([""] if needed else []), *bodies])
