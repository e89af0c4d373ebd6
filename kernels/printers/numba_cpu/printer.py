"""Loop programs as Python source for Numba: `begin`, one `iterate` per step, `end`, and a driver that calls them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from unfoldc.kernels.loops import ITERATION, Assign, For, Let, LoopProgram, Nest, Stmt, Store
from unfoldc.kernels.printers.expressions import buffers_used
from unfoldc.kernels.printers.numba_cpu.expressions import NumbaExpressions
from unfoldc.kernels.printers.numba_cpu.layout import Layout, plan
from unfoldc.kernels.printers.numba_cpu.prelude import PRELUDE
from unfoldc.kernels.printers.python_text import Names, comment

if TYPE_CHECKING:
    from unfoldc.kernels.artifact import Port

_OWN = "workspace addresses batch iterations ticks problem last begin end solve abs min range"
_RESERVED = frozenset(_OWN.split()) | frozenset(compile(PRELUDE, "prelude", "exec").co_names)
_INDENT = "    "


def numba_sources(symbol: str, program: LoopProgram, inputs: Sequence[Port], outputs: Sequence[Port]) -> dict[str, str]:
    """`<symbol>.py`, the source of a module whose `solve` runs the program; a pure function of its arguments.

    `inputs` and `outputs` describe the buffers of `program.inputs` and `program.outputs`, in this order: where a port
    is `batched`, its array has the batch axis in front. The module defines

    - `solve(workspace, *weights, *inputs, *outputs, batch, iterations, ticks)`: `workspace` and the weights are
      addresses, the others C-contiguous arrays (to pass an array costs less than to find out its address). `ticks` has
      K + 2 counts to add to, or none;
    - `WORKSPACE_BYTES`, and `WEIGHTS`: per type its name, the number of elements, and the constants in it with the
      first element of each.
    """
    return {f"{symbol}.py": _Module(program, symbol, inputs, outputs).text()}


class _Module:
    def __init__(self, program: LoopProgram, symbol: str, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
        self.program, self.symbol = program, symbol
        self.ports = (*zip(program.inputs, inputs, strict=True), *zip(program.outputs, outputs, strict=True))
        self.layout: Layout = plan(program)
        self.names = Names(_RESERVED, prefixes=("weights_", "iterate_"))
        self.slots = {name: i for i, (name, _) in enumerate(self.ports)}
        self.bases = ["workspace", *(f"weights_{dtype}" for dtype in self.layout.weights)]

    def text(self) -> str:
        steps = self.program.steps
        functions = [self._function("begin", self.program.begin)]
        k = self.names(ITERATION, "int32")
        functions += [self._function(f"iterate_{i}", step.body, k) for i, step in enumerate(steps)]
        functions.append(self._function("end", self.program.end))
        head = f"# The solver {self.symbol}: begin, {self.program.iterations} iterations, end.\n"
        return "\n\n".join([head + PRELUDE.rstrip("\n") + "\n" + self._facts(), *functions, self._driver()])

    def _facts(self) -> str:
        lines = ["", f"WORKSPACE_BYTES = {self.layout.workspace_bytes}", "WEIGHTS = ("]
        for dtype, (entries, elements) in self.layout.weights.items():
            lines.append(f"{_INDENT}({dtype!r}, {elements}, (")
            lines += [f"{_INDENT * 2}({name!r}, {start})," for name, start in entries]
            lines.append(f"{_INDENT})),")
        return "\n".join([*lines, ")", ""])

    def _function(self, name: str, body: tuple[Stmt, ...], *more: str) -> str:
        """One function. Inputs and outputs come through a table: Numba inlines no call with very many arguments."""
        used = sorted(buffers_used(body))
        lines = ["@part", f"def {name}({', '.join([*self.bases, *more])}):"]
        if any(buffer in self.slots for buffer in used):
            lines.append(_INDENT + self._table())
        for buffer in used:
            facts = self.program.buffers[buffer]
            port = buffer in self.slots
            address = f"addresses[{self.slots[buffer]}]" if port else _sum(*self.layout.places[buffer])
            view = f"view({address}, {facts.size}, np.{_view_type(facts.dtype)})"
            lines.append(f"{_INDENT}{self.names(buffer, 'buffer')} = {view}")
        printer = NumbaExpressions(self.names, lambda buffer: self.program.buffers[buffer].shape)
        lines += self._block(body, printer, 1)
        return "\n".join([*lines, ""]) if len(lines) > 2 else "\n".join([*lines, f"{_INDENT}pass", ""])

    def _table(self) -> str:
        return f"addresses = view({_sum('workspace', self.layout.table)}, {len(self.slots)}, np.int64)"

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
                    lines.append(f"{pad}for {self.names(var, 'int32')} in range({extent}):")
                    lines += self._block(inner, printer, depth + 1) or [f"{pad}{_INDENT}pass"]
                case Nest(origins, inner):
                    lines += [pad + line for line in comment(origins)]
                    lines += self._block(inner, printer, depth)
        return lines

    def _driver(self) -> str:
        program, k = self.program, self.names(ITERATION, "int32")
        arrays = [self.names(name, "buffer") for name in self.slots]
        call = ", ".join(self.bases)
        lines = [f"@njit(types.void({', '.join(self._kinds())}), nogil=True, cache=CACHE, **OPTIONS)"]
        lines.append(f"def solve({', '.join([*self.bases, *arrays, 'batch', 'iterations', 'ticks'])}):")
        lines += [f"{_INDENT}last = np.int64(0)", f"{_INDENT}{self._table()}", f"{_INDENT}for problem in range(batch):"]
        body = []
        for slot, ((name, port), array) in enumerate(zip(self.ports, arrays, strict=True)):
            step = f" + problem * {program.buffers[name].nbytes}" if port.batched else ""
            body.append(f"addresses[{slot}] = {array}.ctypes.data{step}")
        body += ["if ticks.size != 0:", f"{_INDENT}last = counter()", f"begin({call})", "last = stamp(ticks, 0, last)"]
        for i, step_ in enumerate(program.steps):
            body.append(f"for {k} in range({step_.first}, min({step_.first + step_.count}, iterations)):")
            body += [f"{_INDENT}iterate_{i}({call}, {k})", f"{_INDENT}last = stamp(ticks, 1 + {k}, last)"]
        body += [f"end({call})", f"last = stamp(ticks, {program.iterations + 1}, last)"]
        lines += [_INDENT * 2 + line for line in body]
        return "\n".join([*lines, ""])

    def _kinds(self) -> list[str]:
        """The types of the arguments of `solve`, so that it is compiled when the module is loaded."""
        kinds = ["types.int64"] * len(self.bases)
        for name, port in self.ports:
            facts = self.program.buffers[name]
            access = "readable" if facts.space == "input" else "writable"
            kinds.append(f"{access}(types.{_view_type(facts.dtype)}, {len(port.shape) + port.batched})")
        return [*kinds, "types.int64", "types.int64", "writable(types.uint64, 1)"]


def _sum(base: str, offset: int) -> str:
    return f"{base} + {offset}" if offset else base


def _view_type(dtype: str) -> str:
    return "bool_" if np.dtype(dtype).kind == "b" else dtype
