"""The limit: what this core can multiply and add, and read from each level of its memory, against what a graph needs.

    limit = max(operations / measured peak rate of fused multiply-adds, bytes / measured bandwidth of their level)

Operations are those of the program as it was compiled. Bytes are what has to pass through the core at least: for each
iteration its constants and its states, read and written once, for a batch the constants once; then the inputs and the
outputs. They come from the smallest level that holds all of it at once. Of symmetric constants half counts where the
first level does not hold all. Values between two operations of an iteration count nothing, nor does the overhead of a
call, so no program can be faster than the limit.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

from unfoldc.kernels.cost import cost
from unfoldc.kernels.passes.symmetric import symmetric
from unfoldc.kernels.program import Program, Segment
from unfoldc.targets.host_cpu import host_flags, host_target
from unfoldc.targets.toolchains import OPTIMISE, run_compiler

_SOURCE = """
#include <stddef.h>
#include <time.h>
#define LANES %(lanes)d
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4 * LANES)));
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + 1e-9 * t.tv_nsec; }
static volatile float sink;
static void keep(vec v) { float s = 0; for (int i = 0; i < LANES; i++) s += v[i]; sink = s; }

/* Operations per second: sixteen sums that do not wait for each other. */
double peak(double seconds) {
    vec s[16], a, b;
    for (int i = 0; i < LANES; i++) { a[i] = 1e-9f * sink; b[i] = 0.5f; }
    for (int j = 0; j < 16; j++) s[j] = a + (float)j;
    long n = 0; double start = now(), t;
    do {
        for (int r = 0; r < 20000; r++)
            _Pragma("clang loop unroll(full)") for (int j = 0; j < 16; j++) s[j] = s[j] * b + a;
        n += 20000;
    } while ((t = now() - start) < seconds);
    for (int j = 1; j < 16; j++) s[0] += s[j];
    keep(s[0]);
    return 2.0 * LANES * 16 * n / t;
}

/* Bytes per second read from an array, a multiple of 1024 bytes: as one stream, or as eight side by side, in both cases
   with what comes later asked for in advance (`ahead` bytes of a stream, 0 for none). */
double bandwidth(const float *data, size_t bytes, long streams, size_t ahead, double seconds) {
    const char *d = (const char *)data;
    size_t part = bytes / streams, step = 8 / streams * sizeof(vec);
    vec s[8];
    for (int j = 0; j < 8; j++) s[j] = *(const vec *)(d + j * sizeof(vec));
    double passes = 0, start = now(), t;
    long each = (long)(1 + 4e6 / bytes);
    do {
        for (long r = 0; r < each; r++) {
            if (streams == 1)
                for (size_t i = 0; i < part; i += step)
                    _Pragma("clang loop unroll(full)") for (int j = 0; j < 8; j++) {
                        if (ahead) __builtin_prefetch(d + i + j * sizeof(vec) + ahead);
                        s[j] = s[j] + *(const vec *)(d + i + j * sizeof(vec));
                    }
            else
                for (size_t i = 0; i < part; i += step)
                    _Pragma("clang loop unroll(full)") for (int j = 0; j < 8; j++) {
                        if (ahead) __builtin_prefetch(d + i + j * part + ahead);
                        s[j] = s[j] + *(const vec *)(d + i + j * part);
                    }
            __asm__ volatile("" ::: "memory");
        }
        passes += each;
    } while ((t = now() - start) < seconds);
    for (int j = 1; j < 8; j++) s[0] += s[j];
    keep(s[0]);
    return passes * bytes / t;
}
"""
_FILL = 0.6  # share of a level that is read to measure it
_WINDOW = 0.002  # seconds of one measurement
_WAYS = ((1, 0), (1, 1024), (8, 0), (8, 512))  # streams, and bytes asked for in advance
_MEMORY, _PIECE = 1 << 30, 16 << 20  # bytes


@dataclass(frozen=True)
class Machine:
    """Peak in operations per second; for each level its name, its size in bytes and bytes per second."""

    peak: float
    levels: tuple[tuple[str, float, float], ...]

    def level(self, working_set: float) -> tuple[str, float]:
        """The smallest level that holds so many bytes, and its bandwidth."""
        for name, size, rate in self.levels[:-1]:
            if working_set <= size:
                return name, rate
        name, _, rate = self.levels[-1]
        return name, rate


def measure_machine(folder: Path, core: int, rounds: int = 60) -> Machine:
    """Built with the project's own compiler, run on one core; the best of many short rounds, so that the load of other
    programs does not count."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    spec = host_target().spec
    text = _SOURCE % {"lanes": max(4, spec.vector_bits // 32)}
    (folder / "limit.c").write_text(text)
    run_compiler(
        [*host_flags(spec), *OPTIMISE, "-shared", "-fPIC", "-o", "limit.so", "limit.c"], folder, "measuring the machine"
    )
    library = ctypes.CDLL(str(folder / "limit.so"))
    library.peak.restype = library.bandwidth.restype = ctypes.c_double
    data = np.ones(_MEMORY // 4 + 16, np.float32)
    begin = data[-data.ctypes.data % 64 // 4 :].ctypes.data

    def bandwidth(offset: int, size: float, seconds: float, way: tuple[int, int]) -> float:
        whole, ahead = ctypes.c_size_t(int(size) // 4096 * 4096), ctypes.c_size_t(way[1])
        place, streams = ctypes.c_void_p(begin + offset), ctypes.c_long(way[0])
        return float(library.bandwidth(place, whole, streams, ahead, ctypes.c_double(seconds)))

    peak = max(library.peak(ctypes.c_double(_WINDOW)) for _ in range(rounds))
    levels = []
    for name, size in cache_sizes(core).items():
        part = min(_FILL * size, _PIECE)
        levels.append(
            (name, float(size), max(bandwidth(0, part, _WINDOW, way) for way in _WAYS for _ in range(rounds)))
        )
    # Pieces of an array that is larger than every cache, each read once in turn; its end may be in a cache still.
    pieces = range(0, _MEMORY // 2, _PIECE)
    levels.append(
        (
            "memory",
            float("inf"),
            max(bandwidth(offset, _PIECE, 0.0, _WAYS[i % len(_WAYS)]) for i, offset in enumerate(pieces)),
        )
    )
    return Machine(float(peak), tuple(levels))


def cache_sizes(core: int) -> dict[str, int]:
    """Bytes of the data caches of a core, as the system says; usual ones where it says nothing."""
    found: dict[str, int] = {}
    for index in sorted(Path(f"/sys/devices/system/cpu/cpu{core}/cache").glob("index*")):
        if (index / "type").read_text().strip() != "Instruction":
            size = (index / "size").read_text().strip()
            unit = {"K": 1 << 10, "M": 1 << 20}.get(size[-1], 1)
            found[f"L{(index / 'level').read_text().strip()}"] = int(size.rstrip("KM")) * unit
    return found or {"L1": 32 << 10, "L2": 1 << 20, "L3": 16 << 20}


def needs(program: Program, batch: int) -> dict[str, float]:
    """Operations and bytes of a compiled program, and the bytes that it works on; see the module's text.

    Of both, `mirrored` and `mirrored_set` are what the other halves of symmetric constants say already.
    """
    found, types = cost(program), program.types
    operations = batch * (found.begin_flops + sum(found.iterate_flops) + found.end_flops)
    ports = sum(types[name].nbytes for name in (*program.inputs, *program.outputs))
    constants = sum(value.nbytes for value in program.constants.values())
    states = sum(types[state.name].nbytes for state in program.states)
    moved = constants + batch * ports
    need = {"operations": operations, "bytes": moved, "working_set": constants + batch * (states + ports)}
    if batch == 1:
        halves = {n: v.nbytes * (1 - 1 / v.shape[-1]) / 2 for n, v in program.constants.items() if symmetric(v)}
        need["bytes"] = ports + sum(s.count * _passed(program, s) for s in program.segments)
        need["mirrored"] = sum(s.count * sum(halves.get(n, 0) for n in _read(s) - s.stacked) for s in program.segments)
        need["mirrored_set"] = sum(halves.values())
    return need


def _passed(program: Program, segment: Segment) -> int:
    """Bytes that an iteration takes from outside and leaves behind."""
    return sum(program.types[name].nbytes for name in (*_read(segment), *segment.results))


def _read(segment: Segment) -> set[str]:
    made = {name for node in segment.nodes for name in node.outputs}
    return {name for node in segment.nodes for name in node.inputs if name and name not in made}


def limit_seconds(machine: Machine, need: dict[str, float]) -> tuple[float, str]:
    """The limit and what sets it: "arithmetic", or the level."""
    level, rate = machine.level(need["working_set"])
    moved = need["bytes"]
    if level != machine.levels[0][0]:
        level, rate = machine.level(need["working_set"] - need.get("mirrored_set", 0))
        moved -= need.get("mirrored", 0)
    arithmetic, traffic = need["operations"] / machine.peak, moved / rate
    return (arithmetic, "arithmetic") if arithmetic >= traffic else (traffic, level)
