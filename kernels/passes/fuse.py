"""Decides which values are stored and which are computed where they are read: this is what fuses an iteration.

A value is computed inside its reader (inlined) if all its readers end in one stored value that has no more elements
than it, so that nothing is computed twice, and if no reduction reads it, which would compute it once per term. What is
cheap, as a difference that is padded, may be computed for a few elements more.
"""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels.operators import OPERATORS
from unfoldc.kernels.program import Node, Program

# Beyond these an expression would nest too deep to walk, and its indices grow too long.
_DEEPEST = 40
_MOST_VIEWS = 6
_MOST_AGAIN = 1 / 8  # of the elements of what has no sums in it


def stored_values(program: Program) -> frozenset[str]:
    """Names of the node results that get a buffer; others are inlined, views always unless they leave their part."""
    crossing = _crossing(program)
    stored: set[str] = set()
    stored |= _stored(program, program.begin, crossing)
    for segment in program.segments:
        stored |= _stored(program, segment.nodes, set(segment.results))
    stored |= _stored(program, program.end, set(program.outputs))
    return frozenset(stored)


def _crossing(program: Program) -> set[str]:
    """Values of `begin` that are read later; a view is looked through to what it shows."""
    maker = {o: n for n in program.begin for o in n.outputs}
    result: set[str] = {s.initial for s in program.states if s.initial in maker}
    later: list[str] = [i for s in program.segments for n in s.nodes for i in n.inputs]
    later += [i for n in program.end for i in n.inputs]
    later += [*program.outputs, *(v for s in program.segments for v in s.results)]
    seen: set[str] = set()
    while later:
        name = later.pop()
        if name in seen or name not in maker:
            continue
        seen.add(name)
        if OPERATORS[maker[name].operator].kind == "view":
            later.extend(maker[name].inputs)
        else:
            result.add(name)
    return result


def _stored(program: Program, nodes: Sequence[Node], forced: set[str]) -> set[str]:
    stored = {o for n in nodes for o in n.outputs if o in forced}
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in set(node.inputs):
            readers.setdefault(name, []).append(node)
    sums = _from_sums(nodes)
    root: dict[str, str | None] = {}
    depth: dict[str, tuple[int, int]] = {}
    for node in reversed(nodes):
        for name in node.outputs:
            own = readers.get(name, [])
            most = program.types[name].size * (1 if name in sums else 1 + _MOST_AGAIN)
            root[name] = name if name in stored else _root(program, most, node, own, root)
            depth[name] = _depth(node, [depth[o] for reader in own for o in reader.outputs])
            if root[name] is None or depth[name][0] > _DEEPEST or depth[name][1] > _MOST_VIEWS:
                root[name] = name
                stored.add(name)
            if name in stored:
                depth[name] = (0, 0)
    return stored


def _depth(node: Node, readers: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """How many operations, and how many views in a row, lie between a value and the store that it ends in."""
    view = OPERATORS[node.operator].kind == "view"
    return 1 + max((d for d, _ in readers), default=0), (1 + max((v for _, v in readers), default=0)) * view


def _from_sums(nodes: Sequence[Node]) -> set[str]:
    """Values that are made of the result of a reduction or a sequence."""
    found: set[str] = set()
    for node in nodes:
        if OPERATORS[node.operator].kind in ("reduction", "sequence") or not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return found


def _root(program: Program, most: float, node: Node, readers: list[Node], root: dict[str, str | None]) -> str | None:
    """The stored value of at most so many elements inside which a node's result may be computed.

    "" for a view of several readers, None to store it.
    """
    kind = OPERATORS[node.operator].kind
    if kind == "sequence" or (node.operator == "Concat" and readers):
        return None  # each element chooses among all parts: inlined joins of joins would grow exponentially
    found: set[str] = set()
    for reader in readers:
        if OPERATORS[reader.operator].kind in ("reduction", "sequence"):
            found.add("")
        else:
            found.update(str(root[o]) for o in reader.outputs)
    if kind == "view":
        return next(iter(found)) if len(found) == 1 else ""
    if len(found) != 1 or "" in found:
        return None
    target = next(iter(found))
    return target if program.types[target].size <= most else None
