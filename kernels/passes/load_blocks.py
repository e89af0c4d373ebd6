"""Unrolls loops over the terms of sums so that numbers which lie side by side are read together, by one instruction.

    for j < 32: acc_0 += x[j] w[j]; acc_1 += x[j] w[j + 32]
becomes
    for j < 4: x_0 .. x_7 = x[8 j .. 8 j + 7]; w_0 .. w_7 = w[8 j ..]; acc_0 += x_0 w_0; ... acc_0 += x_7 w_7;
               w_0 .. w_7 = w[8 j + 32 ..]; acc_1 += ...
The reads of a block are scalars that follow each other, `<name>_0`, `<name>_1`, ..., which a printer turns into one
statement. It pays on processors that take long for a load but not as long for several into neighbouring registers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from unfoldc.kernels import build
from unfoldc.kernels.index_bounds import linear
from unfoldc.kernels.loops import Assign, Buffer, Expr, For, Let, Load, Local, Nest, Stmt, Var

LONGEST, SHORTEST = 8, 3
"""How many numbers a block may have; two would save no more than the address of a block costs."""

REGISTERS = 24
"""Most numbers of blocks at a time."""

_ALL, _SPARE = 32, 2  # registers; what a product and a constant take

Memory = tuple[str, frozenset[tuple[Expr, int]]]
"""Buffer and terms of a position; with a constant, a place."""

Reads = list[dict[tuple[Memory, int], Load]]
"""What each statement reads, by place."""


@dataclass(frozen=True)
class _Block:
    """Loads of places that lie side by side, from `start` on."""

    memory: Memory
    start: int
    loads: tuple[Load, ...]

    def number(self, place: tuple[Memory, int]) -> int:
        """Which of its numbers lies there; -1 for none."""
        at = place[1] - self.start
        return at if place[0] == self.memory and 0 <= at < len(self.loads) else -1


def load_blocks(body: Sequence[Stmt], buffers: Mapping[str, Buffer]) -> tuple[Stmt, ...]:
    """Applies the transformation to every innermost loop of fixed length that does nothing but add up."""
    result: list[Stmt] = []
    for s in body:
        if isinstance(s, Nest) or isinstance(s, For) and any(isinstance(b, For | Nest) for b in s.body):
            s = replace(s, body=load_blocks(s.body, buffers))
        elif isinstance(s, For) and s.kind == "serial" and all(isinstance(b, Assign) for b in s.body):
            result.extend(_in_blocks(s, buffers))
            continue
        result.append(s)
    return tuple(result)


def _in_blocks(loop: For, buffers: Mapping[str, Buffer]) -> list[Stmt]:
    """The loop in blocks of 8 and one of what is left."""
    if not isinstance(loop.extent, int):
        return [loop]
    result: list[Stmt] = []
    count, left = divmod(loop.extent, LONGEST)
    start = loop.extent - left
    if count:
        body = _unrolled(loop, LONGEST, 0, buffers)
        if body is None:
            return [loop]
        result.append(For(loop.var, count, body) if count > 1 else _once(loop, body))
    body = _unrolled(loop, left, start, buffers) if left else None
    if body is not None:
        result.append(_once(loop, body))
    elif left and not result:
        return [loop]
    elif left:
        place = build.add(Var(loop.var), build.index(start))
        result.append(For(loop.var, left, tuple(build.substitute(s, loop.var, place) for s in loop.body)))
    return result


def _once(loop: For, body: Sequence[Stmt]) -> Nest:
    """The first run of a loop alone."""
    return Nest((), tuple(build.substitute(s, loop.var, build.ZERO) for s in body))


def _unrolled(loop: For, length: int, start: int, buffers: Mapping[str, Buffer]) -> tuple[Stmt, ...] | None:
    """So many runs of the loop from `start` on, with blocks; None where too little lies side by side."""
    first = build.add(build.mul(Var(loop.var), build.index(length)), build.index(start))
    places = [build.add(first, build.index(u)) for u in range(length)]
    runs = [[build.substitute(s, loop.var, place) for s in loop.body] for place in places]
    sums = {s.name for s in loop.body if isinstance(s, Assign)}
    orders = [[s for run in runs for s in run]]
    if _apart(loop.body):
        orders.append([run[i] for i in range(len(loop.body)) for run in runs])
    reads = [_reads(s, buffers) for s in orders[0]]
    blocks = _blocks(reads)
    if 2 * sum(len(b.loads) for b in blocks) < len({place for r in reads for place in r}):
        return None
    needs = [_most_alive([_reads(s, buffers) for s in order], blocks) for order in orders]
    if min(needs) > min(REGISTERS, _ALL - _SPARE - len(sums)):
        return None
    order = orders[needs.index(min(needs))]
    return _with_blocks(order, [_reads(s, buffers) for s in order], blocks, loop.var)


def _blocks(reads: Reads) -> list[_Block]:
    """The blocks among what is read."""
    loads = {place: load for r in reads for place, load in r.items()}
    groups: dict[Memory, list[int]] = {}
    for memory, constant in loads:
        groups.setdefault(memory, []).append(constant)
    found: list[_Block] = []
    for memory, constants in groups.items():
        left = sorted(constants)
        while left:
            length = sum(constant == left[0] + i for i, constant in enumerate(left[:LONGEST]))
            if length >= SHORTEST:
                found.append(_Block(memory, left[0], tuple(loads[memory, c] for c in left[:length])))
            left = left[length:]
    return found


def _reads(s: Stmt, buffers: Mapping[str, Buffer]) -> dict[tuple[Memory, int], Load]:
    loads = build.loads((s,))
    return {place_of(e, buffers): e for e in loads if e.dtype == "float32"}


def place_of(e: Load, buffers: Mapping[str, Buffer]) -> tuple[Memory, int]:
    """Where a number lies."""
    position, stride = linear(build.ZERO), 1
    for index, n in reversed(list(zip(e.indices, buffers[e.buffer].shape, strict=True))):
        position.add(index, stride)
        stride *= n
    terms = frozenset((term, factor) for term, factor in position.terms.items() if factor)
    return (e.buffer, terms), position.constant


def _apart(body: Sequence[Stmt]) -> bool:
    """Whether the statements may be carried out one after the other for all runs: no sum reads another one."""
    sums = [s.name for s in body if isinstance(s, Assign)]
    read = [
        {e.name for e in build.walk(s.value) if isinstance(e, Local)} & set(sums) for s in body if isinstance(s, Assign)
    ]
    return len(set(sums)) == len(body) and all(found <= {name} for name, found in zip(sums, read, strict=True))


def _most_alive(reads: Reads, blocks: Sequence[_Block]) -> int:
    """The most numbers of blocks between their first and their last use."""
    alive = [0] * len(reads)
    for block in blocks:
        uses = [i for i, r in enumerate(reads) if any(block.number(place) >= 0 for place in r)]
        for i in range(uses[0], uses[-1] + 1):
            alive[i] += len(block.loads)
    return max(alive)


def _with_blocks(body: Sequence[Stmt], reads: Reads, blocks: Sequence[_Block], mark: str) -> tuple[Stmt, ...]:
    """The statements, each block read right before its first use."""
    result: list[Stmt] = []
    names: dict[_Block, str] = {}
    for s, places in zip(body, reads, strict=True):
        known: dict[Load, Local] = {}
        for place, load in places.items():
            block = next((b for b in blocks if b.number(place) >= 0), None)
            if block is None:
                continue
            if block not in names:
                names[block] = f"{mark}_{len(names)}"
                result += [Let(f"{names[block]}_{i}", x) for i, x in enumerate(block.loads)]
            known[load] = Local(f"{names[block]}_{block.number(place)}", load.dtype)
        result.append(build.map_stmt(s, partial(_replaced, known)))
    return tuple(result)


def _replaced(known: Mapping[Load, Local], e: Expr) -> Expr | None:
    """The scalar that holds what `e` loads."""
    return known.get(e) if isinstance(e, Load) else None
