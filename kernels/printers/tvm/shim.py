"""`<symbol>.c` around functions that TVM compiled: the same interface as C printed by us, over the same state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unfoldc.kernels.loops import ITERATION, LoopProgram
from unfoldc.kernels.printers.c_api import StateLayout
from unfoldc.kernels.printers.c_api.freestanding import FREESTANDING
from unfoldc.kernels.printers.c_api.header import prototypes
from unfoldc.kernels.printers.c_api.lane_interface import LaneInterface
from unfoldc.kernels.printers.c_api.text import C_TYPES
from unfoldc.kernels.printers.tvm.forms import Argument, Calls, Function, Functions, every


def shim_text(symbol: str, program: LoopProgram, layout: StateLayout, functions: Functions) -> str:
    """The C file; `functions` are those of `begin`, of the steps and of `end`."""
    shim = _Shim(symbol, symbol, program, layout)
    inputs, outputs = ", ".join(["s", *program.inputs]), ", ".join(["s", *program.outputs])
    solve = [
        f"{symbol}_begin({inputs});",
        f"for (int32_t k = 0; k < {program.iterations}; k++) {symbol}_iterate(s);",
        f"{symbol}_end({outputs});",
    ]
    return shim.text({**shim.bodies(functions), "solve": solve}, prototypes(symbol, program, layout), functions)


def lane_shim_text(interface: LaneInterface, functions: Functions) -> str:
    """The same for several problems side by side."""
    own = f"{interface.symbol}_lanes"
    shim = _Shim(interface.symbol, own, interface.program, interface.layout, interface.varying)
    return shim.text(shim.bodies(functions), interface.heads(), functions)


def stand_ins(symbol: str, functions: Functions) -> list[str]:
    """What the functions ask for in place of a C library's."""
    asked = sorted({name for calls in functions for f in every(calls) for name in f.asked})
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
    """`own` prefixes the functions of the file, `symbol` the weights; the buffers `varying` hold vectors."""

    symbol: str
    own: str
    program: LoopProgram
    layout: StateLayout
    varying: frozenset[str] = frozenset()

    def text(self, bodies: Mapping[str, Sequence[str]], heads: Mapping[str, str], functions: Functions) -> str:
        """The whole file."""
        lines = [f'#include "{self.own}.h"', f'#include "{self.symbol}_weights.h"', ""]
        lines += [self.declaration(f) for calls in functions for f in every(calls)]
        lines += stand_ins(self.symbol, functions)
        for name, body in bodies.items():
            lines += ["", heads[name] + " {", *(f"    {line}" for line in body), "}"]
        return "\n".join([*lines, ""])

    def bodies(self, functions: Functions) -> dict[str, list[str]]:
        """What `begin`, `iterate` and `end` do."""
        begin, *steps, end = functions
        keep = ["s->k = 0;", *(f"s->{name} = {name};" for name in self.layout.pointers)]
        return {
            "begin": [*keep, *self.body(begin, self.program.inputs, reads_state=True)],
            "iterate": self.iterate(steps),
            "end": self.body(end, self.program.outputs, reads_state=False),
        }

    def declaration(self, function: Function) -> str:
        """The prototype of a function of TVM's."""
        arguments = [f"{'' if a.written else 'const '}{C_TYPES[a.dtype]} *{a.name}" for a in function.arguments]
        return f"void {function.name}({', '.join([*arguments, *(f'int32_t {n}' for n in function.numbers)])});"

    def call(self, function: Function, parameters: Sequence[str] = ()) -> str:
        """The call with the state's members, the weights and the parameters of the calling function."""
        values = [self._value(a, parameters) for a in function.arguments]
        numbers = ["s->k" if n == ITERATION else n for n in function.numbers]
        return f"{function.name}({', '.join([*values, *numbers])});"

    def calls(self, calls: Calls, parameters: Sequence[str] = ()) -> list[str]:
        """The calls, and the loops around them."""
        lines: list[str] = []
        for c in calls:
            if isinstance(c, Function):
                lines.append(self.call(c, parameters))
                continue
            lines.append(f"for (int32_t {c.var} = 0; {c.var} < {c.extent}; {c.var}++) {{")
            lines += [*(f"    {line}" for line in self.calls(c.calls, parameters)), "}"]
        return lines

    def body(self, calls: Calls, parameters: Sequence[str], reads_state: bool) -> list[str]:
        """The calls, and what keeps the compiler from warning of parameters that nobody reads."""
        arguments = [a.name for f in every(calls) for a in f.arguments]
        unused = [name for name in parameters if name not in (*arguments, *self.layout.pointers)]
        if not reads_state and not set(arguments) - set(parameters) - set(self.program.constants):
            unused.append("s")
        return [*(f"(void){name};" for name in unused), *self.calls(calls, parameters)]

    def iterate(self, steps: Functions) -> list[str]:
        """Chooses the step that the number of the iteration belongs to."""
        lines = [f"if (s->k >= {self.program.iterations}) return;"]
        for number, (step, calls) in enumerate(zip(self.program.steps, steps, strict=True)):
            other = "else " if number else ""
            test = f"if (s->k < {step.first + step.count}) " if number < len(steps) - 1 else ""
            if not (other or test):
                lines += self.calls(calls)
            elif len(calls) == 1 and isinstance(calls[0], Function):
                lines.append(f"{other}{test}{self.call(calls[0])}")
            else:
                lines += [f"{other}{test}{{", *(f"    {line}" for line in self.calls(calls)), "}"]
        return [*lines, "s->k++;"]

    def _value(self, argument: Argument, parameters: Sequence[str]) -> str:
        place = argument.name if argument.name in parameters else f"s->{argument.name}"
        if argument.member:
            place = f"s->{argument.member} + {argument.start}" if argument.start else f"s->{argument.member}"
        elif argument.name in self.program.constants:
            place = f"{self.symbol}_{argument.name}"
        if argument.name not in self.varying:
            return place
        pointer = f"({'' if argument.written else 'const '}{C_TYPES[argument.dtype]} *)"
        return f"{pointer}({place})" if argument.start else f"{pointer}{place}"
