"""Blocks of results: so many rows of so many vectors that all their sums stay in registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unfoldc.kernels import build
from unfoldc.kernels.loops import Expr, For, Nest, Stmt, Var
from unfoldc.kernels.passes.jam_results import Place, jam
from unfoldc.kernels.passes.unroll_sums import written_out
from unfoldc.kernels.passes.vector_axis import Layouts


@dataclass(frozen=True)
class BlockShape:
    """Limits of a block: vectors along a row, rows, additions in a loop that is written out where all are in one block.

    `in_flight` additions must be independent for the adder to be busy. `functions` vectors are those of which an
    elementary function is evaluated side by side: its operations wait for each other.
    """

    vectors: int = 4
    rows: int = 16
    in_flight: int = 8
    functions: int = 4
    written_out: int = 256


@dataclass(frozen=True)
class Chain:
    """Loops directly inside one another, of fixed length, and what the innermost runs: sums over further loops."""

    loops: tuple[For, ...]
    body: tuple[Stmt, ...]

    @property
    def variables(self) -> frozenset[str]:
        """The variables of the loops."""
        return frozenset(s.var for s in self.loops)

    @property
    def sums(self) -> bool:
        """Whether results are sums, or are made of some."""
        return any(isinstance(s, For) for s in self.body)

    def extent(self, number: int) -> int:
        """The length of a loop."""
        extent = self.loops[number].extent
        assert isinstance(extent, int)
        return extent


@dataclass(frozen=True)
class _Part:
    """`count` times `together` vectors of `lanes` results each, from `start` on."""

    start: int
    count: int
    together: int
    lanes: int


@dataclass(frozen=True)
class ResultBlocks:
    """How the results of a chain are blocked.

    Those along loop number `columns` are elements of vectors of `lanes`; runs of loop number `rows`, if any, are taken
    together; `window` is a loop of the body that slides along with them, if any. At most `results` vectors at once.
    """

    chain: Chain
    columns: int
    rows: int | None
    window: str
    lanes: int
    results: int
    shape: BlockShape = BlockShape()

    def blocked(self, layouts: Layouts) -> Sequence[Stmt]:
        """The loops outside in their order, then blocks of vectors, blocks of rows, and the lanes."""
        result: list[Stmt] = []
        for part in self._parts():
            inner: list[Stmt] = []
            body = self._own_constants(part, layouts)
            for first, count, size in self._row_blocks(part):
                inner.extend(self._block(body, part, first, count, size))
            if part.count > 1:
                inner = [For(f"{self._column}_b", part.count, tuple(inner))]
            result.extend(inner)
        for i in reversed(range(len(self.chain.loops))):
            if i not in (self.columns, self.rows):
                result = [replace(self.chain.loops[i], body=tuple(result))]
        return result

    @property
    def _column(self) -> str:
        return self.chain.loops[self.columns].var

    def _parts(self) -> list[_Part]:
        """All results: blocks of whole vectors, the vectors left over, then shorter ones down to single results."""
        extent = self.chain.extent(self.columns)
        whole = extent // self.lanes
        counted = all(isinstance(s.extent, int) for s in build.statements(self.chain.body) if isinstance(s, For))
        few = self.rows is not None or (whole > 2 * self.shape.vectors and counted)
        most = self.shape.vectors if few else 2 * self.shape.vectors
        together = max(1, min(whole, most, self.results))
        parts: list[_Part] = []
        start = 0
        for n, count in ((together, whole // together), (whole % together, 1)):
            if n and count:
                parts.append(_Part(start, count, n, self.lanes))
                start += n * count * self.lanes
        while start < extent:
            width = 1 << ((extent - start).bit_length() - 1)
            parts.append(_Part(start, 1, 1, width))
            start += width
        return parts

    def _row_blocks(self, part: _Part) -> list[tuple[int, int, int]]:
        """First row, number and size of blocks of about equal size."""
        if self.rows is None:
            return [(0, 1, 1)]
        extent = self.chain.extent(self.rows)
        results = self.results * 2 // 3 if self.window else self.results  # the window's numbers take registers too
        most = min(self.shape.rows, max(1, results // part.together))
        size = -(-extent // -(-extent // most))
        whole, rest = divmod(extent, size)
        return [(0, whole, size), *([(whole * size, 1, rest)] if rest else [])]

    def _own_constants(self, part: _Part, layouts: Layouts) -> tuple[Stmt, ...]:
        block: Expr = Var(f"{self._column}_b") if part.count > 1 else build.ZERO
        width = part.together * part.lanes
        within: Expr = Var(f"{self._column}_w") if width > 1 else build.ZERO
        return layouts.laid_out(self.chain.body, self._column, block, within, part.start, (part.count, width))

    def _block(self, body: Sequence[Stmt], part: _Part, first: int, count: int, size: int) -> list[Stmt]:
        """`count` blocks of `size` rows, each with the part's vectors."""
        column, lane = self._column, f"{self._column}_l"
        base: Expr = build.index(part.start)
        if part.count > 1:
            base = build.add(build.mul(Var(f"{column}_b"), build.index(part.together * part.lanes)), base)
        own: Expr = Var(lane) if part.lanes > 1 else build.ZERO
        within = [build.add(build.index(v * part.lanes), own) for v in range(part.together)]
        places: list[Place] = [{column: build.add(base, w), f"{column}_w": w} for w in within]
        if self.rows is not None:
            row = self.chain.loops[self.rows].var
            start: Expr = build.index(first)
            if count > 1:
                start = build.add(build.mul(Var(f"{row}_b"), build.index(size)), start)
            places = [{row: build.add(start, build.index(r)), **p} for r in range(size) for p in places]
        numbers = [r for r in range(size) for _ in within]
        jammed = jam(body, places, self.shape.in_flight, self.window, numbers)
        if self.rows is not None and part.count == count == 1 and size == self.chain.extent(self.rows):
            # What a block that holds a whole matrix leaves in registers, the next nest then finds there.
            jammed = tuple(written_out(s, self.shape.written_out) if isinstance(s, For) else s for s in jammed)
        result: list[Stmt] = [For(lane, part.lanes, jammed, "lanes")] if part.lanes > 1 else [Nest((), jammed)]
        if self.rows is not None and count > 1:
            result = [For(f"{self.chain.loops[self.rows].var}_b", count, tuple(result))]
        return result
