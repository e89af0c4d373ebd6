"""`<symbol>_host.c`: what the host's loader calls. It loops over a batch and takes time stamps inside the program."""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.c_api.text import C_TYPES

_TEXT = Template(
    """/* The host's entry points of ${symbol}: batches, early stop, time stamps. */
#include "${symbol}.h"
${include}
#if defined(__x86_64__)
#define READ_TICKS() ((uint64_t)__builtin_ia32_rdtsc())
#elif defined(__aarch64__)
static inline uint64_t READ_TICKS(void) { uint64_t t; __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t)); return t; }
#else
#include <time.h>
static inline uint64_t READ_TICKS(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
#endif

typedef struct {
    ${symbol}_state one;
${members}} workspace_t;

uint64_t ${symbol}_host_ticks(void);
long ${symbol}_host_workspace(void);
void ${symbol}_host_solve(void *workspace, const void *const *inputs, void *const *outputs, long batch, int iterations);
void ${symbol}_host_profile(void *workspace, const void *const *inputs, void *const *outputs, long batch, int iterations,
                            uint64_t *ticks);

uint64_t ${symbol}_host_ticks(void) { return READ_TICKS(); }

long ${symbol}_host_workspace(void) { return (long)sizeof(workspace_t); }

${lanes}void ${symbol}_host_solve(void *workspace, const void *const *inputs, void *const *outputs, long batch, int iterations) {
    workspace_t *w = (workspace_t *)workspace;
    long b = 0;
${solve_lanes}    for (; b < batch; b++) {
        ${symbol}_begin(${begin});
        for (int k = 0; k < iterations; k++) ${symbol}_iterate(&w->one);
        ${symbol}_end(${end});
    }
}

void ${symbol}_host_profile(void *workspace, const void *const *inputs, void *const *outputs, long batch, int iterations,
                            uint64_t *ticks) {
    workspace_t *w = (workspace_t *)workspace;
    long b = 0;
${profile_lanes}    for (; b < batch; b++) {
        uint64_t before = READ_TICKS(), now;
        ${symbol}_begin(${begin});
        now = READ_TICKS();
        ticks[0] += now - before;
        for (int k = 0; k < iterations; k++) {
            before = now;
            ${symbol}_iterate(&w->one);
            now = READ_TICKS();
            ticks[k + 1] += now - before;
        }
        before = now;
        ${symbol}_end(${end});
        ticks[${count} + 1] += READ_TICKS() - before;
    }
}
"""
)

_LANES = Template(
    """/* Problems side by side: element e of problem l lies at [e][l]. */
static void lanes_in(workspace_t *w, const void *const *inputs, long b) {
${pack}}

static void lanes_out(const workspace_t *w, void *const *outputs, long b) {
${unpack}}

"""
)

_SOLVE_LANES = Template(
    """    for (; b + ${symbol}_LANES <= batch; b += ${symbol}_LANES) {
        lanes_in(w, inputs, b);
        ${symbol}_lanes_begin(${begin});
        for (int k = 0; k < iterations; k++) ${symbol}_lanes_iterate(&w->lanes);
        ${symbol}_lanes_end(${end});
        lanes_out(w, outputs, b);
    }
"""
)

_PROFILE_LANES = Template(
    """    for (; b + ${symbol}_LANES <= batch; b += ${symbol}_LANES) {
        uint64_t before = READ_TICKS(), now;
        lanes_in(w, inputs, b);
        ${symbol}_lanes_begin(${begin});
        now = READ_TICKS();
        ticks[0] += now - before;
        for (int k = 0; k < iterations; k++) {
            before = now;
            ${symbol}_lanes_iterate(&w->lanes);
            now = READ_TICKS();
            ticks[k + 1] += now - before;
        }
        before = now;
        ${symbol}_lanes_end(${end});
        lanes_out(w, outputs, b);
        ticks[${count} + 1] += READ_TICKS() - before;
    }
"""
)


def host_driver_text(
    symbol: str, program: LoopProgram, inputs: Sequence[Port], outputs: Sequence[Port], lanes: int = 0
) -> str:
    """The driver; with lanes > 0 it also drives the `<symbol>_lanes_*` functions for whole groups of problems."""
    begin = ", ".join(["&w->one", *(_place(i, p, "inputs", True) for i, p in enumerate(inputs))])
    end = ", ".join(["&w->one", *(_place(i, p, "outputs", False) for i, p in enumerate(outputs))])
    values = {"symbol": symbol, "begin": begin, "end": end, "count": str(program.iterations)}
    values.update(include="", members="", lanes="", solve_lanes="", profile_lanes="")
    if lanes:
        packed_in = [f"w->in_{i}" if p.batched else f"({_const(p)} *)inputs[{i}]" for i, p in enumerate(inputs)]
        packed_out = [f"w->out_{i}" for i in range(len(outputs))]
        inner = {
            "symbol": symbol,
            "count": str(program.iterations),
            "begin": ", ".join(["&w->lanes", *packed_in]),
            "end": ", ".join(["&w->lanes", *packed_out]),
        }
        values["include"] = f'#include "{symbol}_lanes.h"\n'
        values["members"] = f"    {symbol}_lanes_state lanes;\n" + "".join(
            f"    {symbol}_v{_bits(p)} {kind}_{i}[{max(1, p.size)}];\n"
            for kind, ports in (("in", inputs), ("out", outputs))
            for i, p in enumerate(ports)
            if p.batched
        )
        values["lanes"] = _LANES.substitute(
            pack="".join(_pack(symbol, i, p) for i, p in enumerate(inputs) if p.batched)
            or "    (void)w; (void)inputs; (void)b;\n",
            unpack="".join(_unpack(symbol, i, p) for i, p in enumerate(outputs)),
        )
        values["solve_lanes"] = _SOLVE_LANES.substitute(inner)
        values["profile_lanes"] = _PROFILE_LANES.substitute(inner)
    return _TEXT.substitute(values)


def _const(port: Port) -> str:
    return f"const {C_TYPES[port.dtype]}"


def _bits(port: Port) -> str:
    return port.dtype.removeprefix("float")


def _place(i: int, port: Port, table: str, constant: bool) -> str:
    kind = _const(port) if constant else C_TYPES[port.dtype]
    offset = f" + b * {port.size}" if port.batched else ""
    return f"({kind} *){table}[{i}]{offset}"


def _pack(symbol: str, i: int, port: Port) -> str:
    return (
        f"    {{\n        {_const(port)} *from = ({_const(port)} *)inputs[{i}] + b * {port.size};\n"
        f"        for (int l = 0; l < {symbol}_LANES; l++)\n"
        f"            for (int e = 0; e < {port.size}; e++) w->in_{i}[e][l] = from[l * {port.size} + e];\n    }}\n"
    )


def _unpack(symbol: str, i: int, port: Port) -> str:
    kind = C_TYPES[port.dtype]
    return (
        f"    {{\n        {kind} *to = ({kind} *)outputs[{i}] + b * {port.size};\n"
        f"        for (int l = 0; l < {symbol}_LANES; l++)\n"
        f"            for (int e = 0; e < {port.size}; e++) to[l * {port.size} + e] = w->out_{i}[e][l];\n    }}\n"
    )
