"""What the header says of streams, in comments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.passes.find_streams import Stream, Streams
from unfoldc.kernels.printers.c_api.text import WIDTH, clean


def stream_comments(symbol: str, streams: Streams, ports: Mapping[str, Port]) -> dict[str, str]:
    """What is added to the comments of begin and end, and the comment of next; empty where there are no streams.

    `ports` has the port of the model for each argument.
    """
    if not streams.inputs:
        return dict.fromkeys(("begin", "next", "end"), "")
    free = [s.name for s in streams.inputs if not s.begins]
    begin = f"\n * {_listed(free)} may be NULL where no iteration is run by iterate." if free else ""
    for s in streams.inputs:
        if s.begins:
            begin += f"\n * Of {s.name}, the first {s.size} are read here: iteration 0 gets the same ones."
    names = _listed([s.name for s in streams.outputs])
    end = f"\n * {names} may be NULL; what stands there for iterations to come is left open." if streams.outputs else ""
    lines = [
        "/* Runs one iteration, that of number s->k, like iterate, but on data that is new; does nothing after the last.",
        *(f" *   {_slice(s, ports[s.name])}: its slice of this iteration" for s in streams.inputs),
        *(f" *   {_slice(s, ports[s.name])}: the slice that this iteration adds, or NULL" for s in streams.outputs),
    ]
    if streams.endless:
        lines += [
            " * Iterations differ in these slices alone: set s->k to 0 after the last one, and they go on from where",
            " * they ended.",
        ]
    assert all(len(line) <= WIDTH for line in lines)
    return {"begin": begin, "next": "\n".join(lines) + " */\n", "end": end}


def _slice(s: Stream, port: Port) -> str:
    return f"{s.name}: of {clean(port.name)}, {s.size} x {port.dtype}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
