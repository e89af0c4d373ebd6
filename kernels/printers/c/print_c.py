"""Loop nests as C99: `<symbol>.c`, and `<symbol>_lanes.c` for a vector of problems on the host."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels import build
from unfoldc.kernels.artifact import Port
from unfoldc.kernels.loops import Assign, Binary, Buffer, For, Let, LoopProgram, Nest, Stmt, Store, Unary
from unfoldc.kernels.printers.c.expressions import _MATH, ExpressionPrinter, NotVectorisable
from unfoldc.kernels.printers.c.helpers import helper_texts, math_declarations
from unfoldc.kernels.printers.c_api import header_text, host_driver_text, state_layout, weights_texts
from unfoldc.kernels.printers.c_api.header import StateLayout, prototypes
from unfoldc.kernels.printers.c_api.text import C_TYPES, comment

# Buffers never overlap, but compilers trust `restrict` on parameters only.
_VECTOR_PRAGMA = """\
#if defined(__clang__)
#define {0}_VECTOR _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define {0}_VECTOR _Pragma("GCC ivdep")
#else
#define {0}_VECTOR
#endif"""


def c_sources(
    symbol: str,
    program: LoopProgram,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    host: bool,
    lanes: LoopProgram | None = None,
    lane_count: int = 0,
) -> tuple[dict[str, str], str]:
    """All source files, and why there is no vector form (empty if there is one or none was asked for).

    `lanes` is the same solver scheduled for a vector of `lane_count` problems; both share the weights.
    """
    layout = state_layout(program)
    sources = {f"{symbol}.h": header_text(symbol, program, layout, inputs, outputs)}
    sources.update(weights_texts(symbol, program))
    sources[f"{symbol}.c"] = _Printer(symbol, symbol, program, layout, frozenset(), 0).file()
    reason, used = "", 0
    if lanes is not None and lane_count > 1:
        try:
            sources.update(_lane_sources(symbol, lanes, inputs, lane_count))
            used = lane_count
        except NotVectorisable as error:
            reason = str(error)
    if host:
        sources[f"{symbol}_host.c"] = host_driver_text(symbol, program, inputs, outputs, used)
    return sources, reason


def _lane_sources(symbol: str, program: LoopProgram, inputs: Sequence[Port], count: int) -> dict[str, str]:
    floats = {b.dtype for b in program.buffers.values() if b.space in ("input", "output", "state", "scratch")}
    if len(floats) != 1 or not floats <= {"float32", "float64"}:
        raise NotVectorisable(f"values of the types {', '.join(sorted(floats))}")
    dtype = floats.pop()
    shared = {name for name, port in zip(program.inputs, inputs, strict=True) if not port.batched}
    varying = frozenset(n for n, b in program.buffers.items() if b.space != "constant" and n not in shared)
    layout = state_layout(program)
    own = f"{symbol}_lanes"
    printer = _Printer(own, symbol, program, layout, varying, count)
    text = printer.file()
    return {
        f"{symbol}_lanes.c": text,
        f"{symbol}_lanes.h": _lane_header(symbol, program, layout, varying, count, dtype),
    }


def _lane_header(
    symbol: str, program: LoopProgram, layout: StateLayout, varying: frozenset[str], count: int, dtype: str
) -> str:
    bits = dtype.removeprefix("float")
    size = count * int(bits) // 8
    vector = f"{symbol}_v{bits}"
    lines = [
        f"/* {count} problems side by side: every element is a vector with one entry per problem. */",
        "#include <stdint.h>",
        f"#define {symbol}_LANES {count}",
        f"#define {symbol}_lanes_LANES {count}",
        f"typedef {C_TYPES[dtype]} {vector} __attribute__((vector_size({size}), aligned({size})));",
        f"typedef int{bits}_t {symbol}_m{bits} __attribute__((vector_size({size}), aligned({size})));",
        f"typedef {vector} {symbol}_lanes_v{bits};",
        f"typedef {symbol}_m{bits} {symbol}_lanes_m{bits};",
        "typedef struct {",
        "    int32_t k;",
    ]
    for name in layout.pointers:
        lines.append(f"    const {vector if name in varying else C_TYPES[dtype]} *{name};")
    lines += [f"    {vector} {member}[{max(1, n)}];" for member, _, n in layout.arrays]
    lines.append(f"}} {symbol}_lanes_state;")
    heads = _lane_heads(symbol, program, layout, varying, vector, C_TYPES[dtype])
    return "\n".join([*lines, *(heads[f] + ";" for f in ("begin", "iterate", "end")), ""])


def _lane_heads(
    symbol: str, program: LoopProgram, layout: StateLayout, varying: frozenset[str], vector: str, scalar: str
) -> dict[str, str]:
    state = f"{symbol}_lanes_state *s"
    inputs = [f"const {vector if n in varying else scalar} *{n}" for n in program.inputs]
    outputs = [f"{vector} *{n}" for n in program.outputs]
    constant = "" if layout.end_writes else "const "
    return {
        "begin": f"void {symbol}_lanes_begin({', '.join([state, *inputs])})",
        "iterate": f"void {symbol}_lanes_iterate({state})",
        "end": f"void {symbol}_lanes_end({', '.join([constant + state, *outputs])})",
    }


class _Printer:
    """Prints one C file. `symbol` prefixes its functions, `weights` the constants."""

    def __init__(
        self, symbol: str, weights: str, program: LoopProgram, layout: StateLayout, varying: frozenset[str], lanes: int
    ) -> None:
        self.symbol, self.weights, self.program, self.layout = symbol, weights, program, layout
        self.varying, self.lanes = varying, lanes
        place = {n: f"{weights}_{n}" if b.space == "constant" else n for n, b in program.buffers.items()}
        self.printer = ExpressionPrinter(symbol, program.buffers, place, varying, lanes > 0)
        self.math: set[tuple[str, str]] = set()
        self.lines: list[str] = []
        self.vector_loops = False
        self.dtype = next((b.dtype for b in program.buffers.values() if b.space == "output"), "float32")

    def file(self) -> str:
        """The whole text."""
        functions = self._begin() + self._iterate() + self._end() + ([] if self.lanes else self._solve())
        head = [f'#include "{self.symbol}.h"', f'#include "{self.weights}_weights.h"', ""]
        declarations = math_declarations(self.math | {(n, d) for n, d, v in self.printer.helpers if n in _MATH and v})
        helpers = helper_texts(self.symbol, self.printer.helpers)
        pragma = _VECTOR_PRAGMA.format(self.symbol.upper()).splitlines() if self.vector_loops else []
        blocks = [part for part in (pragma, declarations, helpers) if part]
        return "\n".join([*head, *(line for part in blocks for line in [*part, ""]), *functions])

    def heads(self) -> dict[str, str]:
        if not self.lanes:
            return prototypes(self.symbol, self.program, self.layout)
        vector = f"{self.weights}_v{self.dtype.removeprefix('float')}"
        return _lane_heads(self.weights, self.program, self.layout, self.varying, vector, C_TYPES[self.dtype])

    # -- functions ---------------------------------------------------------------------------------------------

    def _begin(self) -> list[str]:
        keep = [f"    s->{name} = {name};" for name in self.layout.pointers]
        body = self._body(self.program.begin, set(self.program.inputs))
        return [
            self.heads()["begin"] + " {",
            "    s->k = 0;",
            *keep,
            *self._unused(self.program.begin, keep),
            *body,
            "}",
            "",
        ]

    def _unused(self, body: Sequence[Stmt], keep: list[str]) -> list[str]:
        used = _buffers(body)
        return [f"    (void){n};" for n in self.program.inputs if n not in used and n not in self.layout.pointers]

    def _iterate(self) -> list[str]:
        functions: list[str] = []
        state = f"{self.symbol}_state *s"
        several = len(self.program.steps) > 1
        for number, step in enumerate(self.program.steps):
            if several:
                functions += [f"/* iterations {step.first} to {step.first + step.count - 1} */",
                              f"static void {self.symbol}_step_{number}({state}) {{",
                              *self._body(step.body, set()), "}", ""]  # fmt: skip
        lines = [self.heads()["iterate"] + " {", f"    if (s->k >= {self.program.iterations}) return;"]
        if several:
            for number, step in enumerate(self.program.steps):
                last = number == len(self.program.steps) - 1
                test = f"if (s->k < {step.first + step.count}) " if not last else ""
                lines.append(f"    {'else ' if number else ''}{test}{self.symbol}_step_{number}(s);")
        elif self.program.steps:
            lines += self._body(self.program.steps[0].body, set())
        return [*functions, *lines, "    s->k++;", "}", ""]

    def _end(self) -> list[str]:
        head = self.heads()["end"]
        used = _buffers(self.program.end)
        spaces = {self.program.buffers[n].space for n in used}
        unused = [] if spaces & {"state", "scratch"} or used & set(self.layout.pointers) else ["    (void)s;"]
        return [
            head + " {",
            *unused,
            *self._body(self.program.end, set(self.program.outputs), constant=not self.layout.end_writes),
            "}",
            "",
        ]

    def _solve(self) -> list[str]:
        inputs, outputs = ", ".join(["s", *self.program.inputs]), ", ".join(["s", *self.program.outputs])
        return [
            self.heads()["solve"] + " {",
            f"    {self.symbol}_begin({inputs});",
            f"    for (int32_t k = 0; k < {self.program.iterations}; k++) {self.symbol}_iterate(s);",
            f"    {self.symbol}_end({outputs});",
            "}",
            "",
        ]

    # -- statements --------------------------------------------------------------------------------------------

    def _body(self, body: Sequence[Stmt], parameters: set[str], constant: bool = False) -> list[str]:
        self.lines = []
        self._declare(body, parameters, constant)
        for s in body:
            self._statement(s, 1)
        return self.lines

    def _declare(self, body: Sequence[Stmt], parameters: set[str], constant: bool) -> None:
        """Local pointers to the members in use: `restrict` tells the compiler that they do not overlap."""
        written = {s.buffer for s in build.statements(tuple(body)) if isinstance(s, Store)}
        used = _buffers(body)
        for name, buffer in self.program.buffers.items():
            if name not in used or name in parameters or buffer.space == "constant":
                continue
            kind = self._type(buffer)
            source = name
            if buffer.space == "scratch":
                member, offset = self.layout.scratch[name]
                source = f"{member} + {offset}" if offset else member
            qualifier = "" if name in written and not constant else "const "
            self.lines.append(f"    {qualifier}{kind} *const restrict {name} = s->{source};")
        if any(
            e.name == "k" for s in body for top in build.expressions(s) for e in build.walk(top) if hasattr(e, "name")
        ):
            self.lines.append("    const int32_t k = s->k;")

    def _type(self, buffer: Buffer) -> str:
        if self.lanes and buffer.name in self.varying:
            return f"{self.weights}_v{buffer.dtype.removeprefix('float')}"
        return C_TYPES[buffer.dtype]

    def _statement(self, s: Stmt, depth: int) -> None:
        pad = "    " * depth
        if isinstance(s, Nest):
            if note := comment(s.origins):
                self.lines.append(pad + note)
            scoped = any(isinstance(b, Let) for b in s.body)
            if scoped:
                self.lines.append(pad + "{")
            for b in s.body:
                self._statement(b, depth + scoped)
            if scoped:
                self.lines.append(pad + "}")
        elif isinstance(s, For):
            if s.kind == "vector" and not self.lanes:
                self.vector_loops = True
                self.lines.append(f"{pad}{self.symbol.upper()}_VECTOR")
            self.lines.append(f"{pad}for (int32_t {s.var} = 0; {s.var} < {s.extent}; {s.var}++) {{")
            for b in s.body:
                self._statement(b, depth + 1)
            self.lines.append(pad + "}")
        else:
            self._note_math(s)
            self.lines.append(pad + self._simple(s))

    def _simple(self, s: Let | Assign | Store) -> str:
        value = self.printer.text(s.value)
        if value.startswith("(") and value.endswith(")") and _matching(value):
            value = value[1:-1]
        if isinstance(s, Store):
            if self.lanes and not self.printer.varies(s.value):
                value = self.printer.splat(s.value)
            return f"{self.printer.place[s.buffer]}[{self.printer.offset(s.buffer, s.indices)}] = {value};"
        if isinstance(s, Assign):
            return self._assign(s.name, s, value)
        return self._let(s, value)

    def _assign(self, name: str, s: Assign, value: str) -> str:
        if isinstance(s.value, Binary) and s.value.operator == "add" and getattr(s.value.a, "name", None) == name:
            added = self.printer.text(s.value.b)
            return f"{name} += {added[1:-1] if added.startswith('(') and _matching(added) else added};"
        return f"{name} = {value};"

    def _let(self, s: Let, value: str) -> str:
        kind = C_TYPES[s.value.dtype]
        if self.lanes and (s.mutable or self.printer.varies(s.value)):
            self.printer.varying_locals.add(s.name)
            letter = "m" if s.value.dtype == "bool" else "v"
            if s.value.dtype not in (self.dtype, "bool"):
                raise NotVectorisable(f"a value of type {s.value.dtype}")
            kind = f"{self.weights}_{letter}{self.dtype.removeprefix('float')}"
            if not self.printer.varies(s.value):
                value = self.printer.splat(s.value)
        return f"{'' if s.mutable else 'const '}{kind} {s.name} = {value};"

    def _note_math(self, s: Let | Assign | Store) -> None:
        for top in build.expressions(s):
            for e in build.walk(top):
                if isinstance(e, Unary | Binary) and e.operator in _MATH and not self.printer.varies(e):
                    self.math.add((e.operator, e.dtype))


def _buffers(body: Sequence[Stmt]) -> set[str]:
    stored = {s.buffer for s in build.statements(tuple(body)) if isinstance(s, Store)}
    loaded = {e.buffer for s in body for top in build.expressions(s) for e in build.walk(top) if hasattr(e, "buffer")}
    return stored | loaded


def _matching(text: str) -> bool:
    """Whether the first bracket closes at the very end."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return i == len(text) - 1
    return False
