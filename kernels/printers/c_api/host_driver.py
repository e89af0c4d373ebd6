"""`<symbol>_host.c`: what the host's loader calls. It loops over a batch and takes time stamps inside the program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Template

from unfoldc.kernels.accesses import reads
from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.c_api.packing import packing_text
from unfoldc.kernels.printers.c_api.text import C_TYPES, wrap

_TEXT = Template("""\
/* The host's entry points of ${symbol}: batches, early stop, time stamps. Made by unfoldc. */
#if !defined(__x86_64__) && !defined(__aarch64__)
#define _POSIX_C_SOURCE 199309L
#include <time.h>
#endif
#include "${symbol}.h"
${include}
#if defined(__x86_64__)
static inline uint64_t read_ticks(void) {
    return (uint64_t)__builtin_ia32_rdtsc();
}
#elif defined(__aarch64__)
static inline uint64_t read_ticks(void) {
    uint64_t t;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
    return t;
}
#else
static inline uint64_t read_ticks(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
#endif

/* Numbers below the least normal one count as zero while a solver runs: processors take a hundred times as
 * long for them, and iterates that die out would be full of them. */
#if defined(__x86_64__)
typedef unsigned int mode;
static inline mode flush_subnormal(void) {
    const mode before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | 0x8040u);
    return before;
}
static inline void restore(mode before) {
    __builtin_ia32_ldmxcsr(before);
}
#elif defined(__aarch64__)
typedef uint64_t mode;
static inline mode flush_subnormal(void) {
    mode before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | ((mode)1 << 24)));
    return before;
}
static inline void restore(mode before) {
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
}
#else
typedef int mode;
static inline mode flush_subnormal(void) {
    return 0;
}
static inline void restore(mode before) {
    (void)before;
}
#endif

typedef struct workspace {
    ${symbol}_state one;
${members}} workspace;

typedef struct prepared {
    void *memory;
    int64_t batch;
    int64_t iterations;
    const void *const *inputs[${inputs}]; /* for each array the place where its address stands */
    void *const *outputs[${outputs}];
} prepared;

/* A call bound to its arrays; keep counts one more user of the answer. */
typedef struct bound {
    void (*keep)(void *answer);
    void *answer;
    prepared call;
} bound;

/* Bytes of a workspace, which starts at a multiple of 64; each thread needs its own. */
long ${symbol}_host_workspace(void);

/* Problems that are solved side by side: a batch that is split at multiples of it gives the same bits. What is
 * left behind the last multiple is solved one by one, and may be split, if it is less than fewest. */
long ${symbol}_host_group(void);
long ${symbol}_host_fewest(void);

/* The counter that stamps are read from. */
uint64_t ${symbol}_host_ticks(void);

/* Solves `batch` problems with the first `iterations` iterations. An array holds the problems one after the
 * other, or what all of them share. */
void ${symbol}_host_solve(
        void *memory, const void *const *inputs, void *const *outputs, long batch, int iterations);

/* The same with its arguments in one place: foreign callers convert each argument. */
void ${symbol}_host_call(const prepared *p);

/* The same as a function of Python's: self is an array; the record's address stands behind its first two
 * words. */
void *${symbol}_host_bound(const bound *const *self, const void *unused);

/* The same; adds the ticks of begin, of each iteration and of end to the ${count} + 2 counts. */
void ${symbol}_host_profile(
        void *memory, const void *const *inputs, void *const *outputs, long batch, int iterations,
        uint64_t *ticks);

long ${symbol}_host_workspace(void) {
    return (long)sizeof(workspace);
}

long ${symbol}_host_group(void) {
    return ${group};
}

long ${symbol}_host_fewest(void) {
    return ${fewest};
}

uint64_t ${symbol}_host_ticks(void) {
    return read_ticks();
}

${packing}void ${symbol}_host_solve(
        void *memory, const void *const *inputs, void *const *outputs, long batch, int iterations) {
    workspace *const w = (workspace *)memory;
    const mode before = flush_subnormal();
    long b = 0;

${unused}${solve}    restore(before);
}

void ${symbol}_host_call(const prepared *p) {
    const void *const inputs[${inputs}] = {${given}};
    void *const outputs[${outputs}] = {${wanted}};

    ${symbol}_host_solve(p->memory, inputs, outputs, (long)p->batch, (int)p->iterations);
}

void *${symbol}_host_bound(const bound *const *self, const void *unused) {
    const bound *const b = self[2];

    (void)unused;
    ${symbol}_host_call(&b->call);
    b->keep(b->answer);
    return b->answer;
}

void ${symbol}_host_profile(
        void *memory, const void *const *inputs, void *const *outputs, long batch, int iterations,
        uint64_t *ticks) {
    workspace *const w = (workspace *)memory;
    const mode before = flush_subnormal();
    long b = 0;

${unused}    if (iterations > ${count}) {
        iterations = ${count};
    }
${profile}    restore(before);
}
""")

_SOLVE = Template("""\
    for (; b + ${fewest} <= batch; b += ${step}) {
${before}        ${begin};
        for (int k = 0; k < iterations; k++) {
            ${iterate};
        }
        ${end};
${after}    }
""")

_PROFILE = Template("""\
    for (; b + ${fewest} <= batch; b += ${step}) {
        uint64_t last = read_ticks();
        uint64_t now;
${before}        ${begin};
        now = read_ticks();
        ticks[0] += now - last;
        for (int k = 0; k < iterations; k++) {
            last = now;
            ${iterate};
            now = read_ticks();
            ticks[k + 1] += now - last;
        }
        last = now;
        ${end};
${after}        ticks[${count} + 1] += read_ticks() - last;
    }
""")


def host_driver_text(
    symbol: str, program: LoopProgram, inputs: Sequence[Port], outputs: Sequence[Port], lanes: int = 0
) -> str:
    """The driver; with lanes > 0 it gives whole groups of problems to the `<symbol>_lanes_*` functions."""
    groups = [_one_by_one(symbol, inputs, outputs)]
    values = {"include": "", "members": "", "packing": ""}
    if lanes:
        groups.insert(0, _side_by_side(symbol, inputs, outputs, _fewest(program, lanes)))
        values["include"] = f'#include "{symbol}_lanes.h"\n'
        dtype = outputs[0].dtype  # lanes hold one type
        vector = f"{symbol}_v{dtype.removeprefix('float')}"
        values["members"] = f"    {symbol}_lanes_state lanes;\n{_members(vector, inputs, outputs)}"
        values["packing"] = packing_text(symbol, lanes, vector, dtype)
    values["unused"] = "" if inputs else "    (void)inputs;\n"
    count = str(program.iterations)
    return _TEXT.substitute(
        values,
        symbol=symbol,
        count=count,
        group=groups[0]["step"],
        fewest=groups[0]["fewest"],
        inputs=str(max(1, len(inputs))),
        outputs=str(max(1, len(outputs))),
        given=_places("inputs", len(inputs)),
        wanted=_places("outputs", len(outputs)),
        solve="".join(_SOLVE.substitute(group) for group in groups),
        profile="".join(_PROFILE.substitute(group, count=count) for group in groups),
    )


def _fewest(program: LoopProgram, lanes: int) -> int:
    """From how many problems on a group that is not full pays: it reads weights once that do not stay in the cache.

    Where they leave the second-level cache counts what each iteration for one problem reads, and not what `begin` does.
    """
    read = reads(s for step in program.steps for s in step.body)
    weights = {name: value.nbytes for name, value in program.constants.items()}
    if sum(size for name, size in weights.items() if name in read) > 2**20:
        return max(2, lanes // 8)
    return max(2, lanes // 2) if sum(weights.values()) > 2**16 else lanes


def _places(table: str, count: int) -> str:
    """The addresses that stand in the places of a table."""
    return f",\n{' ' * 12}".join(f"*p->{table}[{i}]" for i in range(count)) or "0"


def _one_by_one(symbol: str, inputs: Sequence[Port], outputs: Sequence[Port]) -> Mapping[str, str]:
    begin = ["&w->one", *(_argument("const ", "inputs", i, p) for i, p in enumerate(inputs))]
    end = ["&w->one", *(_argument("", "outputs", i, p) for i, p in enumerate(outputs))]
    return {
        "step": "1",
        "fewest": "1",
        "before": "",
        "begin": _call(f"{symbol}_begin", begin),
        "iterate": f"{symbol}_iterate(&w->one)",
        "end": _call(f"{symbol}_end", end),
        "after": "",
    }


def _side_by_side(symbol: str, inputs: Sequence[Port], outputs: Sequence[Port], fewest: int) -> Mapping[str, str]:
    begin = [f"w->in_{i}" if p.batched else _argument("const ", "inputs", i, p) for i, p in enumerate(inputs)]
    end = [f"w->out_{i}" for i in range(len(outputs))]
    return {
        "step": f"{symbol}_LANES",
        "fewest": str(fewest),
        "before": "".join(
            f"        pack(w->in_{i}, {_argument('const ', 'inputs', i, p)}, {p.size}, batch - b);\n"
            for i, p in enumerate(inputs)
            if p.batched
        ),
        "begin": _call(f"{symbol}_lanes_begin", ["&w->lanes", *begin]),
        "iterate": f"{symbol}_lanes_iterate(&w->lanes)",
        "end": _call(f"{symbol}_lanes_end", ["&w->lanes", *end]),
        "after": "".join(
            f"        unpack({_argument('', 'outputs', i, p)}, w->out_{i}, {p.size}, batch - b);\n"
            for i, p in enumerate(outputs)
        ),
    }


def _call(function: str, arguments: Sequence[str]) -> str:
    return "\n".join(wrap(f"        {function}({', '.join(arguments)})")).lstrip()


def _argument(constant: str, table: str, i: int, port: Port) -> str:
    offset = f" + b * {port.size}" if port.batched else ""
    return f"({constant}{C_TYPES[port.dtype]} *){table}[{i}]{offset}"


def _members(vector: str, inputs: Sequence[Port], outputs: Sequence[Port]) -> str:
    return "".join(
        f"    {vector} {kind}_{i}[{max(1, port.size)}];\n"
        for kind, ports in (("in", inputs), ("out", outputs))
        for i, port in enumerate(ports)
        if port.batched
    )
