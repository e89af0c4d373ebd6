"""Removes nodes, states and constants that no output depends on."""

from __future__ import annotations

from dataclasses import replace

from unfoldc.kernels.program import Node, Program


def remove_dead(program: Program) -> Program:
    """Liveness over the loop: a state is alive if the end reads it or if making a live state's next value needs it."""
    states = {s.name for s in program.states}
    alive: set[str] = set(program.outputs)
    end = _needed(program.end, alive)
    while True:
        before = len(alive & states)
        for segment in reversed(program.segments):
            alive.update(v for s, v in (*segment.carried.items(), *segment.kept.items()) if s in alive)
            _needed(segment.nodes, alive)
        if len(alive & states) == before:
            break
    segments = []
    for segment in program.segments:
        own = set(alive)
        nodes = _needed(segment.nodes, own)
        carried = {s: v for s, v in segment.carried.items() if s in alive}
        kept = {s: v for s, v in segment.kept.items() if s in alive}
        segments.append(replace(segment, nodes=nodes, carried=carried, stacked=segment.stacked & own, kept=kept))
    states_left = tuple(s for s in program.states if s.name in alive)
    alive.update(s.initial for s in states_left)
    begin = _needed(program.begin, alive)
    return replace(
        program,
        begin=begin,
        segments=tuple(segments),
        end=end,
        states=states_left,
        constants={k: v for k, v in program.constants.items() if k in alive},
    )


def _needed(nodes: tuple[Node, ...], alive: set[str]) -> tuple[Node, ...]:
    """The nodes whose results are alive; what they read becomes alive too."""
    kept = []
    for node in reversed(nodes):
        if any(o in alive for o in node.outputs):
            alive.update(i for i in node.inputs if i)
            kept.append(node)
    return tuple(reversed(kept))
