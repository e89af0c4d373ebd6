"""The functions of a solver in C: `begin`, `iterate`, `end`, around the bodies of the loop program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.accesses import touches, writes
from unfoldc.kernels.loops import ITERATION, LoopProgram, Step, Stmt, Var
from unfoldc.kernels.passes.find_streams import Streams
from unfoldc.kernels.printers.c.statements import Statements, is_placed, without_unread
from unfoldc.kernels.printers.c.streaming import callers, guarded, step_head
from unfoldc.kernels.printers.c_api import StateLayout
from unfoldc.kernels.printers.c_api.header import NO_STREAMS
from unfoldc.kernels.printers.c_api.text import wrap

_PAD = "    "


class Functions:
    """Prints the functions of one file. `symbol` prefixes them, `heads` are their heads, `count` is C for K.

    With `streams` the program has slices of them in their place, and the file a `next`.
    """

    def __init__(
        self,
        symbol: str,
        program: LoopProgram,
        layout: StateLayout,
        heads: Mapping[str, str],
        statements: Statements,
        count: str,
        streams: Streams = NO_STREAMS,
    ) -> None:
        steps = tuple(replace(step, body=without_unread(step.body)) for step in program.steps)
        begin, end = without_unread(program.begin), without_unread(program.end)
        self.program = replace(program, begin=begin, steps=steps, end=end)
        self.symbol, self.layout = symbol, layout
        self.heads, self.statements, self.count, self.streams = heads, statements, count, streams
        self._shared = _sharing(program)

    def begin(self) -> list[str]:
        """Keeps the addresses of the inputs that are read again, and runs `begin`."""
        used = touches(self.program.begin).union(self.layout.pointers)
        unused = [f"(void){name};" for name in self.program.inputs if name not in used]
        keep = ["s->k = 0;", *(f"s->{name} = {name};" for name in self.layout.pointers)]
        declared = self._pointers(self.program.begin, self.program.inputs)
        return self._function(self.heads["begin"], [*declared, *unused], keep, self.program.begin)

    def iterate(self) -> list[str]:
        """One function for a solver whose iterations are alike, else one for each kind and one that chooses."""
        steps, k = self.program.steps, f"const int32_t {ITERATION} = s->k;"
        if self._at_once():
            return [
                *self._all_steps(steps[0]),
                *callers(self.symbol, self.streams, self.heads, self.count, at_once=True),
            ]
        if self.streams.inputs:
            return [*self._step_on_slices(steps[0]), *callers(self.symbol, self.streams, self.heads, self.count)]
        if len(steps) == 1:
            self._enter(steps[0])
            pointers = [_PAD * 2 + line for line in self._pointers(steps[0].body, ())]
            return [
                *self._note(steps[0]),
                self.heads["iterate"] + " {",
                _PAD + k,
                "",
                f"{_PAD}if ({ITERATION} < {self.count}) {{",
                *pointers,
                *([""] if pointers else []),
                *self.statements.block(steps[0].body, 2),
                f"{_PAD * 2}s->k = {ITERATION} + 1;",
                f"{_PAD}}}",
                "}",
                "",
            ]
        functions: list[str] = []
        lines = [self.heads["iterate"] + " {", _PAD + k, "", f"{_PAD}if ({ITERATION} < {self.count}) {{"]
        for number, step in enumerate(steps):
            head = [*self._note(step), f"static void {self.symbol}_step_{number}({self.symbol}_state *s)"]
            needs_k = any(e == Var(ITERATION) for e in build.within(step.body))
            self._enter(step)
            declared = [k] * needs_k + self._pointers(step.body, ())
            functions += self._function(head, _using_state(declared), [], step.body)
            test = f"if ({ITERATION} < {step.first + step.count}) " if number < len(steps) - 1 else ""
            lines += [f"{_PAD * 2}{'} else ' if number else ''}{test}{{"]
            lines += [f"{_PAD * 3}{self.symbol}_step_{number}(s);"]
        if not steps:
            return [self.heads["iterate"] + " {", f"{_PAD}(void)s;", "}", ""]
        return [*functions, *lines, f"{_PAD * 2}}}", f"{_PAD * 2}s->k = {ITERATION} + 1;", f"{_PAD}}}", "}", ""]

    def _at_once(self) -> bool:
        """Whether there is one function for some iterations: where they are so short that a call of each counts."""
        steps = self.program.steps
        return len(steps) == 1 and is_placed(steps[0].body) and not self.streams.outputs

    def _all_steps(self, step: Step) -> list[str]:
        """The iterations up to `last`; slices of streams start with that of the first of them."""
        self._enter(step)
        slices = [f"const {self.statements.expressions.element_type(s.name)} *{s.name}" for s in self.streams.inputs]
        parameters = [f"{self.symbol}_state *s", *(f"{line}_first" for line in slices), "int32_t last"]
        head = "\n".join(wrap(f"static void {self.symbol}_steps({', '.join(parameters)})"))
        pointers = self._pointers(step.body, [s.name for s in self.streams.inputs])
        moved = [
            f"{line} = &{s.name}_first[({ITERATION} - first) * {s.size}];"
            for line, s in zip(slices, self.streams.inputs, strict=True)
        ]
        return [
            *self._note(step),
            head + " {",
            *([f"{_PAD}const int32_t first = s->k;"] if moved else []),
            *(_PAD + line for line in pointers),
            "",
            f"{_PAD}for (int32_t {ITERATION} = {'first' if moved else 's->k'}; {ITERATION} < last; {ITERATION}++) {{",
            *(_PAD * 2 + line for line in moved),
            *self.statements.block(step.body, 2),
            f"{_PAD}}}",
            f"{_PAD}s->k = last;",
            "}",
            "",
        ]

    def end(self) -> list[str]:
        """Writes the outputs."""
        declared = self._pointers(self.program.end, self.program.outputs, constant=not self.layout.end_writes)
        return self._function(self.heads["end"], _using_state(declared), [], self.program.end)

    def solve(self) -> list[str]:
        """All of it in one call."""
        inputs, outputs = ", ".join(["s", *self.program.inputs]), ", ".join(["s", *self.program.outputs])
        return [
            self.heads["solve"] + " {",
            *wrap(f"    {self.symbol}_begin({inputs});"),
            *self._solved(),
            *wrap(f"    {self.symbol}_end({outputs});"),
            "}",
            "",
        ]

    def _solved(self) -> list[str]:
        if self._at_once():
            arguments = ["s", *(s.name for s in self.streams.inputs), self.count]
            return wrap(f"    {self.symbol}_steps({', '.join(arguments)});")
        return [
            f"    while (s->k < {self.count}) {{",
            f"        {self.symbol}_iterate(s);",
            "    }",
        ]

    def _function(
        self,
        head: str | Sequence[str],
        declared: Sequence[str],
        first: Sequence[str],
        body: Sequence[Stmt],
    ) -> list[str]:
        *notes, signature = [head] if isinstance(head, str) else head
        lines = [_PAD + line for line in (*declared, *([""] if declared and (first or body) else []), *first)]
        for s in body:
            lines += self._wanted(s)
        return [*notes, signature + " {", *(line.rstrip() for line in lines), "}", ""]

    def _wanted(self, s: Stmt) -> list[str]:
        """The lines of a statement; one that fills a stream for the caller runs where there is a place for it."""
        output = next((o.name for o in self.streams.outputs if o.name in writes((s,))), "")
        return guarded(output, self.statements.block((s,), 2), 1) if output else self.statements.block((s,), 1)

    def _step_on_slices(self, step: Step) -> list[str]:
        """The body of an iteration as a function of the slices."""
        self._enter(step)
        head = [*self._note(step), step_head(self.symbol, self.program, self.streams)]
        declared = self._pointers(step.body, [s.name for s in self.streams.inputs])
        lines = self._function(head, [f"const int32_t {ITERATION} = s->k;", *declared], [], step.body)
        return [*lines[:-2], f"{_PAD}s->k = {ITERATION} + 1;", *lines[-2:]]

    def _pointers(self, body: Sequence[Stmt], parameters: Sequence[str], constant: bool = False) -> list[str]:
        """Pointers to the members in use. Each array is reached through one of them, which `restrict` says.

        Scratch buffers that are not in use at the same time may share memory; those go without.
        """
        used, written = touches(body), writes(body)
        lines = self.statements.hidden(body, used)
        for name, buffer in self.program.buffers.items():
            if name not in used or name in parameters or buffer.space == "constant":
                continue
            source = f"s->{name}"
            if buffer.space == "scratch":
                member, offset = self.layout.scratch[name]
                source = f"&s->{member}[{offset}]" if offset else f"s->{member}"
            qualifier = "" if name in written and not constant else "const "
            apart = "" if self._shared.get(name, frozenset()) & used else " restrict"
            kind = self.statements.expressions.element_type(name)
            lines.append(f"{qualifier}{kind} *const{apart} {name} = {source};")
        return lines

    def _enter(self, step: Step) -> None:
        self.statements.expressions.ranges[ITERATION] = (step.first, step.first + step.count - 1)

    def _note(self, step: Step) -> list[str]:
        if step.count == 1:
            return [f"/* Iteration {step.first}. */"]
        numbers = f"Iterations {step.first} to {step.first + step.count - 1}"
        return [f"/* {numbers}, which are alike: the comments name the nodes of one of them. */"]


def _using_state(lines: list[str]) -> list[str]:
    """The lines, and one against a warning where none of them reads the state."""
    return lines if any("s->" in line for line in lines) else [*lines, "(void)s;"]


def _sharing(program: LoopProgram) -> dict[str, frozenset[str]]:
    """For each scratch buffer the others that overlap it in memory."""
    spans = {
        name: (start, start + program.buffers[name].nbytes)
        for name, start in program.scratch_offsets.items()
        if name in program.buffers
    }
    return {
        a: frozenset(b for b, (first, last) in spans.items() if b != a and first < end and start < last)
        for a, (start, end) in spans.items()
    }
