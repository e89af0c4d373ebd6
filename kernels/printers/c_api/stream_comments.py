"""What the header says of streams, in comments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.passes.find_streams import Stream, Streams
from unfoldc.kernels.printers.c_api.text import clean


def stream_comments(streams: Streams, ports: Mapping[str, Port]) -> dict[str, str]:
    """What is added to the comments of begin and end, and the comment of next; empty where there are no streams.

    `ports` has the port of the model for each argument.
    """
    if not streams.inputs:
        return dict.fromkeys(("begin", "next", "end"), "")
    free = [s.name for s in streams.inputs if not s.begins]
    begin = f"\n * {_listed(free)} may be NULL if no iteration is run by iterate." if free else ""
    for s in streams.inputs:
        if s.begins:
            begin += f"\n * Of {s.name} this reads the slice of iteration 0 only, its first {s.size}."
    names = _listed([s.name for s in streams.outputs])
    end = f"\n * {names} may be NULL. Slices of iterations that have not run hold no answer." if names else ""
    lines = ["/* Runs one iteration, that of number s->k, on new data; does nothing after the last."]
    lines += [f" *   {_slice(s, ports[s.name])}, which belong to this iteration" for s in streams.inputs]
    lines += [f" *   {_slice(s, ports[s.name])}, which this iteration adds; may be NULL" for s in streams.outputs]
    if streams.endless:
        lines.append(" * Iterations differ in data only: after the last, set s->k to 0 to go on from where it ended.")
    return {"begin": begin, "next": "\n".join(lines) + " */\n", "end": end}


def _slice(s: Stream, port: Port) -> str:
    return f"{s.name}: {s.size} of {clean(port.name)}, {port.dtype}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
