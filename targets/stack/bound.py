"""The most stack that a call takes, from what each instruction does to the stack and where it leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """What an instruction does: the bytes that it takes off the stack pointer (None: the code does not say how many),
    the address that it calls or jumps to, whether it comes back from there, and whether it may lead anywhere."""

    taken: int | None = 0
    to: int | None = None
    call: bool = False
    anywhere: bool = False


@dataclass(frozen=True)
class Code:
    """A function from `start` to `end`, by its steps.

    `frame_bytes` of stack are what the compiler says (None: nothing); it does so only where the frame has a fixed size.
    `alignment` is what may be lost where the function aligns its frame.
    """

    start: int
    end: int
    steps: tuple[Step, ...]
    frame_bytes: int | None
    alignment: int = 0


def stack_bound(functions: Mapping[int, Code], entries: Sequence[int]) -> int | None:
    """The most stack in bytes that a call of one of `entries` (addresses) takes, interrupts not counted.

    It is the largest sum of frames along a chain of calls, frame(f) + max over the functions g that f calls of
    bound(g). A frame is what the compiler says, else all that the code takes off the stack pointer, returns or not.
    None where there is no such bound: a function may call itself, call through a pointer, or move the stack pointer by
    a number that is not in the code.
    """
    known: dict[int, int | None] = {}

    def bound(start: int) -> int | None:
        if start not in known:
            known[start] = None  # what is reached again from here calls itself
            known[start] = _bound(functions, functions[start], bound)
        return known[start]

    found = [bound(start) if start in functions else None for start in entries]
    numbers = [n for n in found if n is not None]
    return max(numbers) if len(numbers) == len(found) and found else None


def _bound(functions: Mapping[int, Code], code: Code, bound: Callable[[int], int | None]) -> int | None:
    taken, deepest = 0, code.alignment
    for step in code.steps:
        if step.anywhere or (step.taken is None and code.frame_bytes is None):
            return None
        taken += step.taken or 0
        if step.to is None:
            continue
        if code.start <= step.to < code.end:
            if step.call and step.to == code.start:
                return None  # it calls itself; a call to its middle is how the Cortex-M0 jumps far
            continue
        callee = next((f for f in functions.values() if f.start <= step.to < f.end), None)
        below = None if callee is None else bound(callee.start)
        if below is None:
            return None
        deepest = max(deepest, below + code.alignment)
    return (taken if code.frame_bytes is None else code.frame_bytes) + deepest
