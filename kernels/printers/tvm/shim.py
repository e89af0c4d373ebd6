"""`<symbol>.c` around functions that TVM compiled: the same interface as C printed by us, over the same state."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.c_api import StateLayout
from unfoldc.kernels.printers.c_api.header import prototypes
from unfoldc.kernels.printers.c_api.text import C_TYPES
from unfoldc.kernels.printers.tvm.printer import Function


def shim_text(symbol: str, program: LoopProgram, layout: StateLayout, functions: Sequence[Function | None]) -> str:
    """The C file; `functions` are those of `begin`, of the steps and of `end`."""
    begin, *steps, end = functions
    heads = prototypes(symbol, program, layout)
    inputs, outputs = ", ".join(["s", *program.inputs]), ", ".join(["s", *program.outputs])
    lines = [f'#include "{symbol}.h"', f'#include "{symbol}_weights.h"', ""]
    lines += [_declaration(program, layout, f) for f in functions if f is not None]
    lines += ["", heads["begin"] + " {", "    s->k = 0;"]
    lines += [f"    s->{name} = {name};" for name in layout.pointers]
    lines += [*_body(symbol, program, layout, begin, program.inputs), "}", "", heads["iterate"] + " {"]
    lines.append(f"    if (s->k >= {program.iterations}) return;")
    for number, (step, function) in enumerate(zip(program.steps, steps, strict=True)):
        test = f"if (s->k < {step.first + step.count}) " if number < len(steps) - 1 else ""
        call = _call(symbol, program, layout, function, ()) if function else "{ }"
        lines.append(f"    {'else ' if number else ''}{test}{call}")
    lines += ["    s->k++;", "}", "", heads["end"] + " {", *_body(symbol, program, layout, end, program.outputs), "}", ""]
    lines += [heads["solve"] + " {", f"    {symbol}_begin({inputs});"]
    lines += [f"    for (int32_t k = 0; k < {program.iterations}; k++) {symbol}_iterate(s);"]
    return "\n".join([*lines, f"    {symbol}_end({outputs});", "}", ""])


def _declaration(program: LoopProgram, layout: StateLayout, function: Function) -> str:
    members = {member: dtype for member, dtype, _ in layout.arrays}
    arguments = []
    for name in function.arguments:
        dtype = members[name] if name in members else program.buffers[name].dtype
        arguments.append(f"{'' if name in function.written else 'const '}{C_TYPES[dtype]} *{name}")
    arguments += ["int32_t k"] * function.iterates
    return f"void {function.name}({', '.join(arguments)});"


def _body(
    symbol: str, program: LoopProgram, layout: StateLayout, function: Function | None, parameters: Sequence[str]
) -> list[str]:
    """The call, and what keeps the compiler from warning of parameters that nobody reads."""
    arguments = function.arguments if function else ()
    used = {*arguments, *layout.pointers}
    lines = [f"    (void){name};" for name in parameters if name not in used]
    if not set(arguments) - set(parameters) - set(program.constants):
        lines.append("    (void)s;")
    return [*lines, f"    {_call(symbol, program, layout, function, parameters)}"] if function else lines


def _call(
    symbol: str, program: LoopProgram, layout: StateLayout, function: Function, parameters: Sequence[str]
) -> str:
    values = []
    for name in function.arguments:
        if name in program.constants:
            values.append(f"{symbol}_{name}")
        else:
            values.append(name if name in parameters else f"s->{name}")
    return f"{function.name}({', '.join([*values, *['s->k'] * function.iterates])});"
