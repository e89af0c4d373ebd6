"""Loop programs as functions of TVM's TIR, in its script form: `begin`, one `iterate` per step, and `end`.

The functions have a plain C interface: one pointer for each buffer in use, one for each scratch arena, and for an
iteration its number. Scratch buffers share their arena's pointer, since arguments are declared not to overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unfoldc.kernels.loops import ITERATION, Assign, For, Let, LoopProgram, Nest, Stmt, Store
from unfoldc.kernels.printers.c_api import StateLayout
from unfoldc.kernels.printers.expressions import buffers_used, buffers_written
from unfoldc.kernels.printers.python_text import Names, comment
from unfoldc.kernels.printers.tvm.expressions import TvmExpressions

_INDENT = "    "
_RESERVED = ("I", "T", "Module", "range", "print", "True", "False")


@dataclass(frozen=True)
class Function:
    """A printed function.

    `arguments` names the buffers and scratch arenas in the order of the pointers, `written` those that it writes;
    where it `iterates`, the number of the iteration follows.
    """

    name: str
    arguments: tuple[str, ...]
    written: frozenset[str]
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
        arenas = [(member, dtype, n) for member, dtype, n in layout.arrays if member not in program.buffers]
        self.dtypes = {b.name: b.dtype for b in program.buffers.values()} | {a: d for a, d, _ in arenas}
        self.shapes = {b.name: b.shape or (1,) for b in program.buffers.values()} | {a: (n,) for a, _, n in arenas}
        self.printer = TvmExpressions(self.names, layout.scratch, lambda buffer: program.buffers[buffer].shape)

    def done(self) -> Function | None:
        used, written = (self._arenas(find(self.body)) for find in (buffers_used, buffers_written))
        if not used:
            return None
        arguments = tuple(sorted(used))
        buffers = [self.names(a, "buffer") for a in arguments]
        pointers = [self.names(f"{a}_data", "pointer") for a in arguments]
        parameters = [f'{p}: T.handle("{self.dtypes[a]}", "global")' for p, a in zip(pointers, arguments, strict=True)]
        parameters += [f"{self.names(ITERATION, 'int32')}: T.int32"] * self.iterates
        lines = ["@T.prim_func(s_tir=True)", f"def {self.name}({', '.join(parameters)}):"]
        lines.append(f'{_INDENT}T.func_attr({{"tirx.noalias": True, "global_symbol": "{self.name}"}})')
        for buffer, pointer, a in zip(buffers, pointers, arguments, strict=True):
            lines.append(f'{_INDENT}{buffer} = T.decl_buffer({self.shapes[a]}, "{self.dtypes[a]}", data={pointer})')
        block = self._block(self.body, 1)
        for dtype, zero in self.printer.zeros.items():
            lines += [_INDENT + line for line in _array(zero, dtype, f"T.{dtype}(0.0)")]
        lines += block
        return Function(self.name, arguments, written, self.iterates, "\n".join(_INDENT + line for line in lines))

    def _arenas(self, buffers: frozenset[str]) -> frozenset[str]:
        return frozenset(self.layout.scratch[b][0] if b in self.layout.scratch else b for b in buffers)

    def _block(self, body: Sequence[Stmt], depth: int) -> list[str]:
        lines: list[str] = []
        pad = _INDENT * depth
        for statement in body:
            match statement:
                case For(var, extent, inner, kind):
                    loop = "T.unroll" if kind == "unroll" else "range"
                    lines.append(f"{pad}for {self.names(var, 'int32')} in {loop}({extent}):")
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
            case Let(name, _, True):
                line = _array(printer.declare(name, True), statement.value.dtype, value)
            case Let(name):
                line = [f"{printer.declare(name, False)}: T.let[T.{statement.value.dtype}] = {value}"]
            case Assign(name):
                line = [f"{printer.local(name, statement.value.dtype)} = {value}"]
        return [*printer.temporaries, *line]


def _array(name: str, dtype: str, value: str) -> list[str]:
    """A scalar that may change, as TVM's script has it."""
    return [f'{name} = T.alloc_local((1,), "{dtype}")', f"{name}[0] = {value}"]
