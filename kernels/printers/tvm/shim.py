"""`<symbol>.c` around functions that TVM compiled: the same interface as C printed by us, over the same state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.c_api import StateLayout
from unfoldc.kernels.printers.c_api.freestanding import FREESTANDING
from unfoldc.kernels.printers.c_api.header import prototypes
from unfoldc.kernels.printers.c_api.text import C_TYPES
from unfoldc.kernels.printers.tvm.printer import Argument, Function, Functions


def shim_text(symbol: str, program: LoopProgram, layout: StateLayout, functions: Functions) -> str:
    """The C file; `functions` are those of `begin`, of the steps and of `end`."""
    shim = _Shim(symbol, program, layout)
    heads = prototypes(symbol, program, layout)
    begin, *steps, end = functions
    inputs, outputs = ", ".join(["s", *program.inputs]), ", ".join(["s", *program.outputs])
    keep = ["s->k = 0;", *(f"s->{name} = {name};" for name in layout.pointers)]
    solve = [
        f"{symbol}_begin({inputs});",
        f"for (int32_t k = 0; k < {program.iterations}; k++) {symbol}_iterate(s);",
        f"{symbol}_end({outputs});",
    ]
    bodies = {
        "begin": [*keep, *shim.body(begin, program.inputs, reads_state=True)],
        "iterate": shim.iterate(steps),
        "end": shim.body(end, program.outputs, reads_state=False),
        "solve": solve,
    }
    lines = [f'#include "{symbol}.h"', f'#include "{symbol}_weights.h"', ""]
    lines += [shim.declaration(f) for part in functions for f in part]
    lines += stand_ins(symbol, functions)
    for name, body in bodies.items():
        lines += ["", heads[name] + " {", *(f"    {line}" for line in body), "}"]
    return "\n".join([*lines, ""])


def stand_ins(symbol: str, functions: Functions) -> list[str]:
    """What the functions ask for in place of a C library's."""
    asked = sorted({name for part in functions for f in part for name in f.asked})
    lines: list[str] = []
    for operator, dtype in sorted({needed for name in asked for needed in FREESTANDING[name][0]}):
        kind = C_TYPES[dtype]
        lines.append(f"{kind} {operator}{'f' if dtype == 'float32' else ''}({kind} a);")
    for name in asked:
        text = FREESTANDING[name][1].replace("@", f"{symbol}_").removeprefix("static inline ")
        head = text[: text.index(" {")]
        lines += ["", f"{head};", *text.splitlines()]
    return lines


@dataclass(frozen=True)
class _Shim:
    symbol: str
    program: LoopProgram
    layout: StateLayout

    def declaration(self, function: Function) -> str:
        """The prototype of a function of TVM's."""
        arguments = [f"{'' if a.written else 'const '}{C_TYPES[a.dtype]} *{a.name}" for a in function.arguments]
        return f"void {function.name}({', '.join([*arguments, *['int32_t k'] * function.iterates])});"

    def call(self, function: Function, parameters: Sequence[str] = ()) -> str:
        """The call with the state's members, the weights and the parameters of the calling function."""
        values = [self._value(a, parameters) for a in function.arguments]
        return f"{function.name}({', '.join([*values, *['s->k'] * function.iterates])});"

    def body(self, functions: Sequence[Function], parameters: Sequence[str], reads_state: bool) -> list[str]:
        """The calls, and what keeps the compiler from warning of parameters that nobody reads."""
        arguments = [a.name for f in functions for a in f.arguments]
        unused = [name for name in parameters if name not in (*arguments, *self.layout.pointers)]
        if not reads_state and not set(arguments) - set(parameters) - set(self.program.constants):
            unused.append("s")
        return [*(f"(void){name};" for name in unused), *(self.call(f, parameters) for f in functions)]

    def iterate(self, steps: Functions) -> list[str]:
        """Chooses the step that the number of the iteration belongs to."""
        lines = [f"if (s->k >= {self.program.iterations}) return;"]
        for number, (step, functions) in enumerate(zip(self.program.steps, steps, strict=True)):
            other = "else " if number else ""
            test = f"if (s->k < {step.first + step.count}) " if number < len(steps) - 1 else ""
            calls = " ".join(self.call(f) for f in functions)
            lines.append(f"{other}{test}{calls if len(functions) == 1 else f'{{ {calls} }}'}")
        return [*lines, "s->k++;"]

    def _value(self, argument: Argument, parameters: Sequence[str]) -> str:
        if argument.member:
            return f"s->{argument.member} + {argument.start}" if argument.start else f"s->{argument.member}"
        if argument.name in self.program.constants:
            return f"{self.symbol}_{argument.name}"
        return argument.name if argument.name in parameters else f"s->{argument.name}"
