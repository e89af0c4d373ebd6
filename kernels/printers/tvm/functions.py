"""The functions of a solver as a script of TVM's: `begin`, one `iterate` per step, and `end`, each in parts."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels.loops import ITERATION, LoopProgram
from unfoldc.kernels.printers.c_api import StateLayout
from unfoldc.kernels.printers.tvm.forms import Calls, Form, Function, Functions, Loop, every
from unfoldc.kernels.printers.tvm.parts import Part, Repeated, parts_of
from unfoldc.kernels.printers.tvm.printer import FunctionPrinter


def print_functions(symbol: str, program: LoopProgram, layout: StateLayout, form: Form) -> Functions:
    """`begin`, the steps and `end`, in this order."""
    iterates = [(f"iterate_{i}", step.body, (ITERATION,)) for i, step in enumerate(program.steps)]
    functions: list[Calls] = []
    for name, body, numbers in [("begin", program.begin, ()), *iterates, ("end", program.end, ())]:
        parts = (Part(tuple(body), True),) if form.lanes > 1 else parts_of(body)
        functions.append(_calls(f"{symbol}_tir_{name}", parts, numbers, program, layout, form))
    return functions


def _calls(
    name: str,
    parts: Sequence[Part | Repeated],
    numbers: tuple[str, ...],
    program: LoopProgram,
    layout: StateLayout,
    form: Form,
) -> Calls:
    """The functions of the parts, without those that do nothing."""
    made: list[Function | Loop] = []
    for i, part in enumerate(parts):
        own = name if len(parts) == 1 else f"{name}_part_{i}"
        if isinstance(part, Repeated):
            inner = _calls(own, part.parts, (*numbers, part.var), program, layout, form)
            made += [Loop(part.var, part.extent, tuple(inner))] if inner else []
        else:
            function = FunctionPrinter(own, program, layout, part, numbers, form).done()
            made += [function] if function is not None else []
    return made


def module_text(functions: Functions) -> str:
    """The script of a module; `tvm.script.from_source` reads it."""
    texts = [f.text for calls in functions for f in every(calls)]
    return "\n\n".join(["@I.ir_module\nclass Module:", *texts]) + "\n"
