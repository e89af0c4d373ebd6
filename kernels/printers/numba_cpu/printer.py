"""Loop programs as Python source for Numba: `begin`, one `iterate` per step, `end`, and a driver that calls them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from unfoldc.kernels.accesses import touches
from unfoldc.kernels.loops import ITERATION, Assign, For, Let, LoopProgram, Nest, Stmt, Store
from unfoldc.kernels.printers.elementary import FUNCTIONS
from unfoldc.kernels.printers.numba_cpu.elementary import elementary_text
from unfoldc.kernels.printers.numba_cpu.expressions import NumbaExpressions
from unfoldc.kernels.printers.numba_cpu.layout import Layout, plan
from unfoldc.kernels.printers.numba_cpu.prelude import PRELUDE
from unfoldc.kernels.printers.python_text import Names, comment

if TYPE_CHECKING:
    from unfoldc.kernels.artifact import Port

_OWN = "workspace addresses inputs outputs batch iterations ticks problem last begin end solve abs range"
_GIVEN = "\n\n".join([PRELUDE, *elementary_text(FUNCTIONS)])
_RESERVED = frozenset(_OWN.split()) | frozenset(compile(_GIVEN, "prelude", "exec").co_names)
_INDENT = "    "


def numba_sources(symbol: str, program: LoopProgram, inputs: Sequence[Port], outputs: Sequence[Port]) -> dict[str, str]:
    """A module to compile and what its caller must know; a pure function of the arguments.

    `inputs` and `outputs` describe the buffers of `program.inputs` and `program.outputs`, in this order: where a port
    is `batched`, its array has the batch axis in front.

    `<symbol>.py` defines `solve(workspace, inputs, outputs, batch, iterations, ticks)` of 64-bit integers, to be
    compiled with its `OPTIONS`. `inputs` and `outputs` are the addresses of tables of addresses; `ticks` is that of
    K + 2 counts to add to, or 0.

    `<symbol>_layout.json` gives the bytes of a workspace, the offset in it at which the caller writes the addresses of
    the weights, and per type of weights its name, the number of elements and the first element of each constant.
    """
    module = _Module(program, symbol, inputs, outputs)
    return {f"{symbol}.py": module.text(), f"{symbol}_layout.json": module.facts()}


class _Module:
    def __init__(self, program: LoopProgram, symbol: str, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
        self.program, self.symbol = program, symbol
        self.ports = (*zip(program.inputs, inputs, strict=True), *zip(program.outputs, outputs, strict=True))
        self.layout: Layout = plan(program)
        self.names = Names(_RESERVED, prefixes=("weights_", "iterate_"))
        self.functions: set[tuple[str, str]] = set()
        self.slots = {name: i for i, (name, _) in enumerate(self.ports)}
        self.bases = ["workspace", *(f"weights_{dtype}" for dtype in self.layout.weights)]

    def text(self) -> str:
        steps = self.program.steps
        functions = [self._function("begin", self.program.begin)]
        k = self.names(ITERATION, "int32")
        functions += [self._function(f"iterate_{i}", step.body, k) for i, step in enumerate(steps)]
        functions.append(self._function("end", self.program.end))
        head = f"# The solver {self.symbol}: begin, {self.program.iterations} iterations, end.\n"
        return "\n\n".join([head + PRELUDE, *elementary_text(self.functions), *functions, self._driver()])

    def facts(self) -> str:
        layout = self.layout
        facts = {
            "workspace_bytes": layout.workspace_bytes,
            "addresses": layout.table + 8 * len(self.slots),
            "weights": [[dtype, elements, dict(entries)] for dtype, (entries, elements) in layout.weights.items()],
        }
        return json.dumps(facts, indent=1) + "\n"

    def _function(self, name: str, body: tuple[Stmt, ...], *more: str) -> str:
        """One function. Inputs and outputs come through a table: Numba inlines no call with very many arguments."""
        used = sorted(touches(body))
        lines = ["@part", f"def {name}({', '.join([*self.bases, *more])}):"]
        if any(buffer in self.slots for buffer in used):
            lines.append(_INDENT + self._table())
        for buffer in used:
            facts = self.program.buffers[buffer]
            port = buffer in self.slots
            address = f"addresses[{self.slots[buffer]}]" if port else _sum(*self.layout.places[buffer])
            elements = f"elements({address}, np.{'uint8' if facts.dtype == 'bool' else facts.dtype})"
            lines.append(f"{_INDENT}{self.names(buffer, 'buffer')} = {elements}")
        printer = NumbaExpressions(self.names, lambda buffer: self.program.buffers[buffer].shape, self.functions)
        lines += self._block(body, printer, 1)
        return "\n".join([*lines, ""]) if len(lines) > 2 else "\n".join([*lines, f"{_INDENT}pass", ""])

    def _table(self) -> str:
        return f"addresses = elements({_sum('workspace', self.layout.table)}, np.int64)"

    def _block(self, body: tuple[Stmt, ...], printer: NumbaExpressions, depth: int) -> list[str]:
        pad = _INDENT * depth
        lines: list[str] = []
        for statement in body:
            match statement:
                case Let(name, value) | Assign(name, value):
                    lines.append(f"{pad}{self.names(name, value.dtype)} = {printer.text(value)}")
                case Store(buffer, indices, value):
                    lines.append(f"{pad}{printer.element(buffer, indices)} = {printer.text(value)}")
                case For(var, extent, inner):
                    count = extent if isinstance(extent, int) else printer.text(extent)
                    lines.append(f"{pad}for {self.names(var, 'int32')} in range({count}):")
                    lines += self._block(inner, printer, depth + 1) or [f"{pad}{_INDENT}pass"]
                case Nest(origins, inner):
                    lines += [pad + line for line in comment(origins)]
                    lines += self._block(inner, printer, depth)
        return lines

    def _driver(self) -> str:
        program, k = self.program, self.names(ITERATION, "int32")
        call = ", ".join(self.bases)
        given = ("workspace", "inputs", "outputs", "batch", "iterations", "ticks")
        lines = [f"def solve({', '.join(given)}):", f"{_INDENT}last = np.int64(0)", _INDENT + self._table()]
        for i, base in enumerate(self.bases[1:], len(self.slots)):
            lines.append(f"{_INDENT}{base} = addresses[{i}]")
        lines.append(f"{_INDENT}for problem in range(batch):")
        body = []
        for slot, (name, port) in enumerate(self.ports):
            at = slot - len(program.inputs)
            array = f"elements(inputs, np.int64)[{slot}]" if at < 0 else f"elements(outputs, np.int64)[{at}]"
            step = f" + problem * {program.buffers[name].nbytes}" if port.batched else ""
            body.append(f"addresses[{slot}] = {array}{step}")
        body += ["if ticks != 0:", f"{_INDENT}last = counter()", f"begin({call})", "last = stamp(ticks, 0, last)"]
        for i, step_ in enumerate(program.steps):
            body.append(f"for {k} in range({step_.first}, minimum({step_.first + step_.count}, iterations)):")
            body += [f"{_INDENT}iterate_{i}({call}, {k})", f"{_INDENT}last = stamp(ticks, 1 + {k}, last)"]
        body += [f"end({call})", f"last = stamp(ticks, {program.iterations + 1}, last)"]
        lines += [_INDENT * 2 + line for line in body]
        return "\n".join([*lines, ""])


def _sum(base: str, offset: int) -> str:
    return f"{base} + {offset}" if offset else base
