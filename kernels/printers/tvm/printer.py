"""Loop programs as functions of TVM's TIR, in its script form.

The functions have a plain C interface: one pointer for each buffer in use and, for an iteration, its number. Pointers
are declared not to overlap, so scratch buffers that do share one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.accesses import touches, writes
from unfoldc.kernels.index_bounds import loop_range
from unfoldc.kernels.loops import ITERATION, Assign, Expr, For, Let, LoopProgram, Nest, Select, Stmt, Store
from unfoldc.kernels.printers.c_api import StateLayout
from unfoldc.kernels.printers.python_text import Names, comment
from unfoldc.kernels.printers.tvm.expressions import Places, TvmExpressions, array, constant
from unfoldc.kernels.printers.tvm.forms import IN_ORDER, Argument, Form, Function
from unfoldc.kernels.printers.tvm.parts import Part, has_lanes
from unfoldc.kernels.printers.tvm.row_sums import row_sums_text
from unfoldc.kernels.printers.tvm.vectors import VectorExpressions

_INDENT = "    "
_RESERVED = ("I", "T", "Module", "range", "print", "True", "False")


class FunctionPrinter:
    """Prints one part of a body as a function; `numbers` are passed to it behind the pointers."""

    def __init__(
        self,
        name: str,
        program: LoopProgram,
        layout: StateLayout,
        part: Part,
        numbers: tuple[str, ...],
        form: Form,
    ) -> None:
        self.name, self.program, self.layout, self.part, self.numbers = name, program, layout, part, numbers
        self.form, body = form, part.body
        self.names = Names(_RESERVED)
        self.used, self.written = touches(body), writes(body)
        self.shared: dict[str, tuple[str, int]] = {}
        self.ranges: dict[str, tuple[int, int | Expr]] = {}
        self.arguments = sorted([*self._buffers(), *self._scratch()], key=lambda a: a.name)
        # Vectors are found in arrays of one axis only.
        self.flat = form.lanes > 1 or has_lanes(body)
        known = frozenset(n for n in self.used & program.constants.keys() if not np.isnan(program.constants[n]).any())
        places = Places(self.shared, lambda buffer: program.buffers[buffer].shape, known)
        self.printer: TvmExpressions | VectorExpressions
        if self.flat:
            self.printer = vectors = VectorExpressions(self.names, places, form.metal)
            vectors.estimates, vectors.loops = form.estimates, len(set(numbers) - {ITERATION})
            if form.lanes > 1:
                vectors.side_by_side(form.varying, form.lanes, form.dtype)
        else:
            self.printer = TvmExpressions(self.names, places, form.metal)

    def done(self) -> Function | None:
        """The whole function, or None where it uses no buffer."""
        if not self.arguments:
            return None
        buffers = [self.names(a.name, "buffer") for a in self.arguments]
        pointers = [self.names(f"{a.name}_data", "pointer") for a in self.arguments]
        parameters = [f'{p}: T.handle("{a.dtype}", "global")' for p, a in zip(pointers, self.arguments, strict=True)]
        parameters += [f"{self.names(number, 'int32')}: T.int32" for number in self.numbers]
        lines = ["@T.prim_func(s_tir=True)", f"def {self.name}({', '.join(parameters)}):"]
        order = f', "{IN_ORDER}": True' * self.part.in_order
        lines.append(f'{_INDENT}T.func_attr({{"tirx.noalias": True, "global_symbol": "{self.name}"{order}}})')
        for buffer, pointer, a in zip(buffers, pointers, self.arguments, strict=True):
            lanes = self.form.lanes if a.name in self.form.varying else 1
            shape = (lanes * math.prod(a.shape),) if self.flat else a.shape
            lines.append(f'{_INDENT}{buffer} = T.decl_buffer({shape}, "{a.dtype}", data={pointer})')
        block = self._block(self.part.body, 1)
        for dtype, zero in self.printer.zeros.items():
            lines += [_INDENT + line for line in array(zero, dtype, f"T.{dtype}(0.0)")]
        text = "\n".join(_INDENT + line for line in [*lines, *block])
        return Function(self.name, tuple(self.arguments), self.numbers, text, frozenset(self.printer.asked))

    def _buffers(self) -> list[Argument]:
        buffers = [self.program.buffers[name] for name in self.used - self.layout.scratch.keys()]
        return [Argument(b.name, b.dtype, b.shape or (1,), b.name in self.written) for b in buffers]

    def _scratch(self) -> list[Argument]:
        """A pointer for each scratch buffer, or for several that overlap: `shared` says where each begins in it."""
        arguments: list[Argument] = []
        places = [(*self.layout.scratch[name], name) for name in self.used & self.layout.scratch.keys()]
        for member, start, name in sorted(places):
            b = self.program.buffers[name]
            last = arguments[-1] if arguments and arguments[-1].member == member else None
            if last is None or start >= last.start + math.prod(last.shape):
                arguments.append(Argument(name, b.dtype, b.shape or (1,), name in self.written, member, start))
                continue
            size = max(math.prod(last.shape), start - last.start + b.size)
            written = last.written or name in self.written
            arguments[-1] = replace(last, shape=(size,), written=written)
            self.shared.setdefault(last.name, (last.name, 0))
            self.shared[name] = (last.name, start - last.start)
        return arguments

    def _block(self, body: Sequence[Stmt], depth: int) -> list[str]:
        lines: list[str] = []
        pad = _INDENT * depth
        for statement in body:
            match statement:
                case For():
                    lines += self._loop(statement, depth)
                case Nest(origins, inner):
                    lines += [pad + line for line in comment(origins)] + self._block(inner, depth)
                case _:
                    lines += [pad + line for line in self._simple(statement)]
        return lines

    def _loop(self, loop: For, depth: int) -> list[str]:
        pad, printer = _INDENT * depth, self.printer
        outer = dict(self.ranges)
        self.ranges[loop.var] = loop_range(loop)
        try:
            if isinstance(printer, VectorExpressions):
                if loop.kind == "lanes":
                    with printer.lanes_of(loop):
                        return self._block(loop.body, depth)
                sums = printer.row_sums(loop, self.ranges) if printer.lane else None
                if sums is not None:
                    return [pad + line for line in row_sums_text(printer, *sums)]
                printer.loops += 1
            # LLVM unrolls loops inside of vectors by itself, and late: unrolled before, what they read would be kept in
            # registers and taken from there element by element, which is slower than from memory.
            kind = "T.unroll" if loop.kind == "unroll" and not self.flat else "range"
            printer.start()
            count = loop.extent if isinstance(loop.extent, int) else printer.text(loop.extent)
            head = f"{pad}for {self.names(loop.var, 'int32')} in {kind}({count}):"
            body = self._block(loop.body, depth + 1)
            if isinstance(printer, VectorExpressions):
                printer.loops -= 1
            return [head, *(body or [f"{pad}{_INDENT}pass"])]
        finally:
            self.ranges = outer

    def _simple(self, statement: Let | Assign | Store) -> list[str]:
        """The lines of one statement, with the temporaries that its expressions need in front."""
        printer = self.printer
        printer.start()
        if isinstance(printer, VectorExpressions) and printer.is_vector(statement):
            return self._vector(printer, statement)
        value = printer.text(statement.value)
        match statement:
            case Store(buffer, indices):
                line = [f"{printer.element(buffer, indices)} = {value}"]
            case Let(name, _, mutable) if mutable or _chooses(statement.value):
                line = array(printer.declare(name, True), statement.value.dtype, value)
            case Let(name):
                line = [constant(printer.declare(name, False), statement.value.dtype, value)]
            case Assign(name):
                line = [f"{printer.local(name, statement.value.dtype)} = {value}"]
        return [*printer.temporaries, *line]

    def _vector(self, printer: VectorExpressions, statement: Let | Assign | Store) -> list[str]:
        """The same for a statement that writes a vector."""
        value = printer.kept(statement.value)
        kind = printer.kind_of(statement.value.dtype)
        match statement:
            case Store(buffer, indices):
                line = [f"{printer.element(buffer, indices)} = {value}"]
            case Let(name):
                line = array(printer.declare(name, True, vector=True), kind, value, printer.lanes)
            case Assign(name):
                line = [f"{printer.place(name)} = {value}"]
        return [*printer.temporaries, *line]


def _chooses(value: Expr) -> bool:
    """Whether a number comes from a choice: TVM refuses some products with one that it can look into, for no reason.

    It does not look into an element of an array.
    """
    return value.dtype.startswith("float") and any(isinstance(e, Select) for e in build.walk(value))
