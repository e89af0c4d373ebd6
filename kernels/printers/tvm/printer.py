"""Loop programs as functions of TVM's TIR, in its script form: `begin`, one `iterate` per step, and `end`.

The functions have a plain C interface: one pointer for each buffer in use and, for an iteration, its number. Pointers
are declared not to overlap, so scratch buffers that do share one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unfoldc.kernels import build
from unfoldc.kernels.loops import ITERATION, Assign, Expr, For, Let, LoopProgram, Nest, Select, Stmt, Store
from unfoldc.kernels.printers.c_api import StateLayout
from unfoldc.kernels.printers.expressions import buffers_used, buffers_written
from unfoldc.kernels.printers.python_text import Names, comment
from unfoldc.kernels.printers.tvm.expressions import TvmExpressions

_INDENT = "    "
_RESERVED = ("I", "T", "Module", "range", "print", "True", "False")


@dataclass(frozen=True)
class Argument:
    """A pointer: to the buffer `name`, or to scratch, `start` elements into the member `member` of the state."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    written: bool
    member: str = ""
    start: int = 0


@dataclass(frozen=True)
class Function:
    """A printed function; where it `iterates`, the number of the iteration follows the pointers."""

    name: str
    arguments: tuple[Argument, ...]
    iterates: bool
    text: str


def print_functions(symbol: str, program: LoopProgram, layout: StateLayout) -> list[Function | None]:
    """`begin`, the steps and `end`, in this order; None for one with nothing to do."""
    parts = [("begin", program.begin, False)]
    parts += [(f"iterate_{i}", step.body, True) for i, step in enumerate(program.steps)]
    parts.append(("end", program.end, False))
    return [_Function(f"{symbol}_tir_{name}", program, layout, body, k).done() for name, body, k in parts]


def module_text(functions: Sequence[Function | None]) -> str:
    """The script of a module; `tvm.script.from_source` reads it."""
    texts = [f.text for f in functions if f is not None]
    return "\n\n".join(["@I.ir_module\nclass Module:", *texts]) + "\n"


class _Function:
    def __init__(
        self, name: str, program: LoopProgram, layout: StateLayout, body: tuple[Stmt, ...], iterates: bool
    ) -> None:
        self.name, self.program, self.layout, self.body, self.iterates = name, program, layout, body, iterates
        self.names = Names(_RESERVED)
        self.used, self.written = buffers_used(body), buffers_written(body)
        self.shared: dict[str, tuple[str, int]] = {}
        self.arguments = sorted([*self._buffers(), *self._scratch()], key=lambda a: a.name)
        self.printer = TvmExpressions(self.names, self.shared, lambda buffer: program.buffers[buffer].shape)

    def done(self) -> Function | None:
        """The whole function, or None where it uses no buffer."""
        if not self.arguments:
            return None
        buffers = [self.names(a.name, "buffer") for a in self.arguments]
        pointers = [self.names(f"{a.name}_data", "pointer") for a in self.arguments]
        parameters = [f'{p}: T.handle("{a.dtype}", "global")' for p, a in zip(pointers, self.arguments, strict=True)]
        parameters += [f"{self.names(ITERATION, 'int32')}: T.int32"] * self.iterates
        lines = ["@T.prim_func(s_tir=True)", f"def {self.name}({', '.join(parameters)}):"]
        lines.append(f'{_INDENT}T.func_attr({{"tirx.noalias": True, "global_symbol": "{self.name}"}})')
        for buffer, pointer, a in zip(buffers, pointers, self.arguments, strict=True):
            lines.append(f'{_INDENT}{buffer} = T.decl_buffer({a.shape}, "{a.dtype}", data={pointer})')
        block = self._block(self.body, 1)
        for dtype, zero in self.printer.zeros.items():
            lines += [_INDENT + line for line in _array(zero, dtype, f"T.{dtype}(0.0)")]
        text = "\n".join(_INDENT + line for line in [*lines, *block])
        return Function(self.name, tuple(self.arguments), self.iterates, text)

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
                case For(var, extent, inner, kind):
                    loop = "T.unroll" if kind == "unroll" else "range"
                    count = extent if isinstance(extent, int) else self.printer.text(extent)
                    lines.append(f"{pad}for {self.names(var, 'int32')} in {loop}({count}):")
                    lines += self._block(inner, depth + 1)
                case Nest(origins, inner):
                    lines += [pad + line for line in comment(origins)] + self._block(inner, depth)
                case _:
                    lines += [pad + line for line in self._simple(statement)]
        return lines

    def _simple(self, statement: Let | Assign | Store) -> list[str]:
        """The lines of one statement, with the temporaries that its expressions need in front."""
        printer = self.printer
        printer.start()
        value = printer.text(statement.value)
        match statement:
            case Store(buffer, indices):
                line = [f"{printer.element(buffer, indices)} = {value}"]
            case Let(name, _, mutable) if mutable or _chooses(statement.value):
                line = _array(printer.declare(name, True), statement.value.dtype, value)
            case Let(name):
                line = [f"{printer.declare(name, False)}: T.let[T.{statement.value.dtype}] = {value}"]
            case Assign(name):
                line = [f"{printer.local(name, statement.value.dtype)} = {value}"]
        return [*printer.temporaries, *line]


def _array(name: str, dtype: str, value: str) -> list[str]:
    """A scalar that may change, as TVM's script has it."""
    return [f'{name} = T.alloc_local((1,), "{dtype}")', f"{name}[0] = {value}"]


def _chooses(value: Expr) -> bool:
    """Whether a number comes from a choice: TVM refuses some products with one that it can look into, for no reason.

    It does not look into an element of an array.
    """
    return value.dtype.startswith("float") and any(isinstance(e, Select) for e in build.walk(value))
