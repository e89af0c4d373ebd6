"""Random iterations over images: nests that read each other's arrays at neighbouring places, with borders."""

from __future__ import annotations

import random
from dataclasses import dataclass

from unfoldc.kernels import build
from unfoldc.kernels.build import index, literal
from unfoldc.kernels.loops import Buffer, Expr, For, Let, Load, Local, LoopProgram, Nest, Select, Step, Stmt, Store, Var

STATES, SCRATCH = "abc", "tu"


@dataclass
class Stencils:
    """`rows` x `columns` images in three states and two scratch buffers; two iterations of one body."""

    seed: int
    dtype: str = "float32"

    def __post_init__(self) -> None:
        self.r = random.Random(self.seed)
        self.shape = self.r.choice([6, 9]), self.r.choice([4, 6, 9, 11])

    def program(self) -> LoopProgram:
        buffers = {n: Buffer(n, self.dtype, self.shape, "state") for n in STATES}
        buffers |= {n: Buffer(n, self.dtype, self.shape, "scratch") for n in SCRATCH}
        buffers["x"] = Buffer("x", self.dtype, self.shape, "input")
        buffers["out"] = Buffer("out", self.dtype, (3, *self.shape), "output")
        body = [self.nest(n, name, "abcx", self.shape) for n, name in enumerate(SCRATCH)]  # written before it is read
        for n in range(len(body), len(body) + self.r.choice([2, 3, 4, 5])):
            extents = tuple(self.r.choice([size, size, size, size - 1]) for size in self.shape)
            body.append(self.nest(n, self.r.choice(STATES + SCRATCH), "abcxtu", extents))
        begin = tuple(self.copy(n, (), "x", (), factor) for n, factor in zip(STATES, (1.0, -0.5, 0.25), strict=True))
        end = tuple(self.copy("out", (index(n),), name, (), 1.0) for n, name in enumerate(STATES))
        return LoopProgram(buffers, {}, ("x",), ("out",), begin, (Step(0, 2, tuple(body)),), end)

    def copy(self, target: str, lead: tuple[Expr, ...], source: str, own: tuple[Expr, ...], factor: float) -> Stmt:
        at = Var("i"), Var("j")
        value = build.mul(Load(source, (*own, *at), self.dtype), literal(factor, self.dtype))
        return Nest((), (For("i", self.shape[0], (For("j", self.shape[1], (Store(target, (*lead, *at), value),)),)),))

    def nest(self, number: int, target: str, sources: str, extents: tuple[int, ...]) -> Stmt:
        """A sum of a few neighbours, times factors, some of them chosen by where the borders are."""
        at = Var(f"i{number}"), Var(f"j{number}")
        offsets = [self.r.choice([0, 1]) if n < size else 0 for n, size in zip(extents, self.shape, strict=True)]
        body: list[Stmt] = []
        for term in range(self.r.choice([1, 2, 3])):
            places = [self.place(v, n, size) for v, n, size in zip(at, extents, self.shape, strict=True)]
            value: Expr = Load(self.r.choice(sources), tuple(i for i, _ in places), self.dtype)
            for _, inside in places:
                value = value if inside is None else Select(inside, value, literal(0.5, self.dtype), self.dtype)
            factor = literal(self.r.choice([-0.375, -0.25, 0.25, 0.5]), self.dtype)
            body.append(Let(f"v{number}_{term}", build.mul(value, factor)))
        total: Expr = Local(f"v{number}_0", self.dtype)
        for term in range(1, len(body)):
            total = build.add(total, Local(f"v{number}_{term}", self.dtype))
        own = tuple(build.add(v, index(o)) for v, o in zip(at, offsets, strict=True))
        body.append(Store(target, own, total))
        return Nest((), (For(at[0].name, extents[0], (For(at[1].name, extents[1], tuple(body)),)),))

    def place(self, v: Var, extent: int, size: int) -> tuple[Expr, Expr | None]:
        """An index along an axis, and perhaps the condition that it lies inside the image."""
        if extent < size:
            return build.add(v, index(self.r.choice([0, 1]))), None
        kind = self.r.choice(["own", "own", "next", "before", "next but one"])
        if kind == "own":
            return v, None
        if kind == "before":
            before = build.sub(v, index(1))
            return build.binary("max", before, index(0)), self.r.choice([None, build.binary("ge", before, index(0))])
        steps = 1 if kind == "next" else 2
        clamped = build.binary("min", build.add(v, index(steps)), index(size - 1))
        return clamped, self.r.choice([None, build.binary("lt", v, index(size - steps))])
