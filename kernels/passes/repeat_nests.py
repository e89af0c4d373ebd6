"""Turns loop nests that do the same again and again, such as the unrolled steps of an inner solver, into a loop.

    t1 = f(a, w1); t2 = f(t1, w2); t3 = f(t2, w3)
becomes
    s = a; for i < 3: s = f(s, w[i])
What a nest reads over the repetitions is the same buffer each time, constants that are stacked, what the repetition
itself made, or what the one before made, which then lives in a buffer of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.loops import Buffer, Const, Expr, For, Load, LoopProgram, Nest, Step, Stmt, Store, Var
from unfoldc.kernels.passes.nest_holes import Hole, holes, refill, skeleton
from unfoldc.kernels.passes.store_in_place import store_in_place
from unfoldc.kernels.repetition import stretches

_FEWEST = 3


class _DifferError(ValueError):
    """The repetitions have no common body."""


def repeat_nests(program: LoopProgram) -> LoopProgram:
    """Returns the program with the repetitions in each of its parts as loops."""
    work = _Work(dict(program.buffers), dict(program.constants))
    begin = work.part(program.begin)
    steps = tuple(Step(s.first, s.count, work.part(s.body)) for s in program.steps)
    end = work.part(program.end)
    parts = (begin, *(s.body for s in steps), end)
    used = {h.name for part in parts for s in part for h in holes(s) if h.name}
    keep = {n for n, b in work.buffers.items() if n in used or b.space in ("input", "output")}
    return replace(
        program,
        buffers={n: b for n, b in work.buffers.items() if n in keep},
        constants={n: v for n, v in work.constants.items() if n in keep},
        begin=begin,
        steps=steps,
        end=end,
    )


@dataclass
class _Work:
    buffers: dict[str, Buffer]
    constants: dict[str, np.ndarray]
    count: int = 0

    def part(self, body: tuple[Stmt, ...], outside: frozenset[str] = frozenset()) -> tuple[Stmt, ...]:
        """One part with its longest repetition as a loop, and what stands before and behind it treated likewise.

        `outside` are the buffers that statements around `body` touch.
        """
        if len(body) < 2 * _FEWEST or not all(isinstance(s, Nest) for s in body):
            return body
        numbers: dict[object, int] = {}
        tokens = np.array([numbers.setdefault(skeleton(s, self.buffers), len(numbers)) for s in body])
        for stretch in sorted(stretches(tokens), key=lambda s: (-s.length, s.period)):
            count = stretch.length // stretch.period
            for first, last in ((0, count), (0, count - 1), (1, count), (1, count - 1)):
                if last - first < _FEWEST:
                    continue
                start = stretch.first + first * stretch.period
                stop = stretch.first + last * stretch.period
                try:
                    return self.replaced(body, start, stop, stretch.period, outside)
                except _DifferError:
                    continue
        return body

    def replaced(
        self, body: tuple[Stmt, ...], start: int, stop: int, period: int, outside: frozenset[str]
    ) -> tuple[Stmt, ...]:
        """The part with the nests from `start` to `stop` as a loop; raises _DifferError where that cannot be."""
        groups = [body[i : i + period] for i in range(start, stop, period)]
        before, after = body[:start], body[stop:]
        loop = _Loop(self, groups, outside | _buffers((*before, *after)), outside)
        starts, repeated, renamed = loop.build()
        later = tuple(_renamed(s, renamed) for s in after)
        middle: tuple[Stmt, ...] = (*starts, repeated)
        earlier = self.part(before, outside | _buffers((*middle, *later)))
        return (*earlier, *middle, *self.part(later, outside | _buffers((*before, *middle))))

    def fresh(self, prefix: str, buffer: Buffer, shape: tuple[int, ...] | None = None) -> str:
        """A new buffer like another."""
        self.count += 1
        name = f"{prefix}{self.count}"
        self.buffers[name] = replace(buffer, name=name, shape=buffer.shape if shape is None else shape)
        return name


@dataclass
class _Loop:
    """The common body of the groups.

    `outside` are the buffers that the rest of the part touches; those of them in `keep` are read where no new name
    for them can be given.
    """

    work: _Work
    groups: Sequence[tuple[Stmt, ...]]
    outside: frozenset[str]
    keep: frozenset[str]
    states: dict[tuple[int, str], str] = field(default_factory=dict)
    waiting: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.work.count += 1
        self.var = Var(f"r{self.work.count}")
        self.found = [[h for s in group for h in holes(s)] for group in self.groups]
        if len({tuple(h.kind for h in found) for found in self.found}) != 1:
            raise _DifferError
        self.written = self._written()

    def build(self) -> tuple[list[Nest], For, dict[str, str]]:
        """What sets the carried buffers before the loop, the loop, and new names for what is read after it."""
        filled = iter([self._fill(i) for i in range(len(self.found[0]))])
        nests = []
        for s in self.groups[-1]:
            nest = refill(s, lambda hole: next(filled))
            assert isinstance(nest, Nest)
            nests.append(nest)
        starts = [self._copy(initial, state) for (_, initial), state in (*self.states.items(), *self.waiting.items())]
        copies = [self._copy(self._name(i), state) for (i, _), state in self.states.items()]
        for (source, _), state in self.waiting.items():
            aside = self.work.fresh("c", self.work.buffers[state])
            nests.insert(0, self._copy(source, aside))
            copies.append(self._copy(aside, state))
        body, gone = store_in_place(nests, copies, keep=set(self.keep))
        renamed = {self._name(i): state for (i, _), state in self.states.items() if self._name(i) in gone}
        return starts, For(self.var.name, len(self.groups), body), renamed

    def _names(self, i: int) -> list[str]:
        return [found[i].name for found in self.found]

    def _name(self, i: int) -> str:
        return self.found[-1][i].name

    def _written(self) -> list[dict[str, int]]:
        """For each group the buffers of its own that it writes, and the hole where it does."""
        result: list[dict[str, int]] = [{} for _ in self.groups]
        for i, hole in enumerate(self.found[0]):
            names = self._names(i)
            if hole.kind != "store" or len(set(names)) == 1:
                continue
            spaces = {self.work.buffers[n].space for n in names}
            if len(set(names)) < len(names) or spaces != {"scratch"} or set(names[:-1]) & self.outside:
                raise _DifferError
            for group, name in zip(result, names, strict=True):
                if self._names(group.setdefault(name, i)) != names:
                    raise _DifferError
        return result

    def _fill(self, i: int) -> Expr | str:
        """What stands in the common body at hole `i`: a buffer's name, or an expression."""
        hole = self.found[-1][i]
        if hole.kind == "const":
            return self._number([found[i].value for found in self.found])
        names = self._names(i)
        if hole.kind == "store":
            return hole.name
        own = [written.get(name) for written, name in zip(self.written, names, strict=True)]
        if len(set(names)) == 1 and not any(names[0] in written for written in self.written):
            return hole.name
        if own[0] is not None and len(set(own)) == 1:
            return self._name(own[0])
        last = [written.get(name) for written, name in zip(self.written, names[1:], strict=False)]
        if last[0] is not None and len(set(last)) == 1 and not any(names[0] in written for written in self.written):
            return self._carried(last[0], names[0])
        older = [written.get(name) for written, name in zip(self.written, names[2:], strict=False)]
        if older[0] is not None and len(set(older)) == 1 and not any(set(names[:2]) & w.keys() for w in self.written):
            return self._older(older[0], names[0], names[1])
        if all(self.work.buffers[name].space == "constant" for name in names):
            return self._stacked([self.work.constants[name] for name in names], self.work.buffers[names[0]])
        raise _DifferError

    def _carried(self, i: int, initial: str) -> str:
        key = (i, initial)
        if key not in self.states:
            self.states[key] = self.work.fresh("c", self.work.buffers[self._name(i)])
        return self.states[key]

    def _older(self, i: int, initial: str, following: str) -> str:
        """The buffer of what was made two repetitions ago."""
        key = (self._carried(i, following), initial)
        if key not in self.waiting:
            self.waiting[key] = self.work.fresh("c", self.work.buffers[self._name(i)])
        return self.waiting[key]

    def _stacked(self, values: Sequence[np.ndarray], buffer: Buffer) -> str:
        """A constant with a slice for each repetition; the reader's first index is the loop's variable."""
        if len({(v.shape, str(v.dtype)) for v in values}) != 1:
            raise _DifferError
        stack = np.stack(values)
        name = self.work.fresh("wr", replace(buffer, space="constant"), stack.shape)
        self.work.constants[name] = stack
        return f"{name}[{self.var.name}]"

    def _number(self, constants: Sequence[Const]) -> Expr:
        """A literal, an index that grows by the same step, or an element of a table."""
        first = constants[0]
        values = np.array([c.value for c in constants])
        if all(c == first for c in constants) and (np.signbit(values) == np.signbit(values[0])).all():
            return first
        if first.dtype == "int32":
            steps = np.diff(values)
            if (steps != steps[0]).any() or abs(values.astype(np.int64)).max() >= 2**30:
                raise _DifferError
            return build.add(build.mul(self.var, build.index(int(steps[0]))), build.index(int(values[0])))
        buffer = Buffer("", first.dtype, (len(values),), "constant")
        name = self.work.fresh("wr", buffer)
        self.work.constants[name] = values.astype(first.dtype)
        return Load(name, (self.var,), first.dtype)

    def _copy(self, source: str, target: str) -> Nest:
        buffer = self.work.buffers[target]
        variables = [f"{self.var.name}_{target}_{a}" if n > 1 else "" for a, n in enumerate(buffer.shape)]
        at = tuple(Var(v) if v else build.ZERO for v in variables)
        body: tuple[Stmt, ...] = (Store(target, at, Load(source, at, buffer.dtype)),)
        for variable, n in reversed(list(zip(variables, buffer.shape, strict=True))):
            if variable:
                body = (For(variable, n, body),)
        return Nest((), body)


def _buffers(body: Sequence[Stmt]) -> frozenset[str]:
    """The buffers that the statements touch."""
    return frozenset(h.name for s in body for h in holes(s) if h.name)


def _renamed(s: Stmt, names: Mapping[str, str]) -> Stmt:
    def name(hole: Hole) -> Expr | str:
        return hole.value if hole.kind == "const" else names.get(hole.name, hole.name)

    return refill(s, name) if names else s
