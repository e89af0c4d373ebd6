"""Iterations of a solver with streams: one function for their body, called by `iterate` and by `next`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.passes.find_streams import Stream, Streams
from unfoldc.kernels.printers.c_api.header import slice_parameters
from unfoldc.kernels.printers.c_api.text import wrap

_PAD = "    "


def step_head(symbol: str, program: LoopProgram, streams: Streams) -> str:
    """The head of the function with the body; the slices come as arguments, for no pointer may leave its array."""
    parameters = [f"{symbol}_state *s", *slice_parameters(program, streams, restrict=True, outputs=False)]
    return "\n".join(wrap(f"static void {symbol}_step({', '.join(parameters)})"))


def callers(symbol: str, streams: Streams, heads: Mapping[str, str], count: str, at_once: bool = False) -> list[str]:
    """`iterate` on slices of the arrays that `begin` was given, and `next` on the caller's.

    `at_once`: there is a function for all iterations up to a number.
    """
    name, last = (f"{symbol}_steps", ["s->k + 1"]) if at_once else (f"{symbol}_step", [])
    slices = [f"&s->{s.name}[{_start('s->k', s)}]" for s in streams.inputs]
    lines = [heads["iterate"] + " {", f"{_PAD}if (s->k < {count}) {{"]
    lines += wrap(f"{_PAD * 2}{name}({', '.join(['s', *slices, *last])});")
    lines += [f"{_PAD}}}", "}", ""]
    if not streams.inputs:
        return lines
    lines += [heads["next"] + " {"]
    lines += [f"{_PAD}const int32_t k = s->k;", ""] if streams.outputs else []
    lines += [f"{_PAD}if ({'k' if streams.outputs else 's->k'} < {count}) {{"]
    lines += wrap(f"{_PAD * 2}{name}({', '.join(['s', *(s.name for s in streams.inputs), *last])});")
    for stream in streams.outputs:
        lines += guarded(stream.name, _copy(stream), 2)
    return [*lines, f"{_PAD}}}", "}", ""]


def guarded(output: str, body: Sequence[str], depth: int) -> list[str]:
    """Lines that run where the caller wants an output; they are indented one level deeper than `depth` already."""
    return [f"{_PAD * depth}if ({output} != NULL) {{", *body, f"{_PAD * depth}}}"]


def _copy(stream: Stream) -> list[str]:
    """The slot of the iteration into the output."""
    start = _start("k", stream)
    if stream.size == 1:
        return [f"{_PAD * 3}{stream.name}[0] = s->{stream.history}[{start}];"]
    return [
        f"{_PAD * 3}for (int32_t i = 0; i < {stream.size}; i++) {{",
        f"{_PAD * 4}{stream.name}[i] = s->{stream.history}[({start}) + i];",
        f"{_PAD * 3}}}",
    ]


def _start(k: str, stream: Stream) -> str:
    return k if stream.size == 1 else f"{k} * {stream.size}"
