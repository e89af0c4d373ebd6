"""Which buffers statements read and write, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Buffer, Expr, LoopProgram, Stmt, Store


@dataclass(frozen=True)
class Access:
    """An element of a buffer that a statement reads or, `stored`, writes."""

    buffer: str
    indices: tuple[Expr, ...]
    stored: bool


def accesses(body: Iterable[Stmt]) -> list[Access]:
    """All elements that the statements read and write."""
    body = tuple(body)
    stores = [s for s in build.statements(body) if isinstance(s, Store)]
    return [
        *(Access(e.buffer, e.indices, False) for e in build.loads(body)),
        *(Access(s.buffer, s.indices, True) for s in stores),
    ]


def reads(body: Iterable[Stmt]) -> set[str]:
    """Names of the buffers that the statements read."""
    return {e.buffer for e in build.loads(body)}


def writes(body: Iterable[Stmt]) -> set[str]:
    """Names of the buffers that the statements write."""
    return {s.buffer for s in build.statements(tuple(body)) if isinstance(s, Store)}


def touches(body: Iterable[Stmt]) -> set[str]:
    """Names of the buffers that the statements read or write."""
    body = tuple(body)
    return reads(body) | writes(body)


def reading(program: LoopProgram, buffers: Mapping[str, Buffer], constants: Mapping[str, np.ndarray]) -> LoopProgram:
    """The program with these buffers, without constants that it does not read."""
    read = reads(s for part in program.parts for s in part)
    return replace(
        program,
        buffers={n: b for n, b in buffers.items() if b.space != "constant" or n in read},
        constants={n: v for n, v in constants.items() if n in read},
    )
