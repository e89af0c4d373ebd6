"""Several rounds of shared runs side by side, and loops written out: so that what they share is read once.

    for j: acc = acc + w[lane, j] x[j]          (round 0)
    for j: acc = acc + w[lane + 32, j] x[j]     (round 1)
becomes
    for j: acc_0 = acc_0 + w[lane, j] x[j]; acc_1 = acc_1 + w[lane + 32, j] x[j]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from unfoldc.kernels import build
from unfoldc.kernels.gpu.parts import Combine, Settle, Share, Work
from unfoldc.kernels.loops import Assign, Expr, For, Let, Load, Local, Nest, Stmt, Store, Var

_WRITTEN_OUT = 48  # statements that a loop may become
_AT_ONCE = 16  # statements of a longer loop that stand in one of its runs
_SIDE_BY_SIDE = 4  # rounds

Localise = Callable[[str, tuple[Expr, ...]], "tuple[str, tuple[Expr, ...]] | None"]
"""Where a lane keeps an element of a buffer of its own, in this round; None if it is not its own."""


def places_of(part: Share, first: int, teams: int) -> dict[str, Expr] | None:
    """The variables in the round whose first run is `first`, from those in round 0; None if it is not that simple."""
    result: dict[str, Expr] = {}
    step = 1
    for variable, extent in reversed(part.loops):
        assert isinstance(extent, int)
        outermost = variable == part.variables[0]
        more = first // step if outermost else first // step % extent
        stays = not outermost and first % (step * extent) == 0
        inside = outermost or (teams - 1) // step + more < extent  # nowhere begins the next row
        if not stays and not (inside and (first % step == 0 or step % teams == 0)):
            return None
        result[variable] = build.add(Var(variable), build.index(more))
        step *= extent
    return result


def copied(body: Sequence[Work], places: Mapping[str, Expr], mark: str, localise: Localise) -> tuple[Work, ...]:
    """The statements of another round: variables at other places, scalars of its own, and what the lane keeps."""
    own = {s.name for s in _flat(body) if isinstance(s, Let)}

    def change(e: Expr) -> Expr | None:
        if isinstance(e, Var) and e.name in places:
            return places[e.name]
        if isinstance(e, Local) and e.name in own:
            return Local(e.name + mark, e.dtype)
        if isinstance(e, Load):
            inside = tuple(build.map_expr(i, change) for i in e.indices)
            found = localise(e.buffer, inside)
            return Load(e.buffer, inside, e.dtype) if found is None else Load(*found, e.dtype)
        return None

    def copy(s: Work) -> Work:
        if isinstance(s, Combine):
            return replace(s, name=s.name + mark) if s.name in own else s
        if isinstance(s, Settle):
            return s
        if isinstance(s, For):
            return For(s.var, build.map_extent(s.extent, change), tuple(map(one, s.body)), s.kind)
        return one(s)

    def one(s: Stmt) -> Stmt:
        if isinstance(s, For):
            return For(s.var, build.map_extent(s.extent, change), tuple(map(one, s.body)), s.kind)
        if isinstance(s, Nest):
            return Nest(s.origins, tuple(map(one, s.body)))
        if isinstance(s, Let):
            return Let(s.name + mark, build.map_expr(s.value, change), s.mutable)
        if isinstance(s, Assign):
            return Assign(s.name + mark if s.name in own else s.name, build.map_expr(s.value, change))
        inside = tuple(build.map_expr(i, change) for i in s.indices)
        found = localise(s.buffer, inside) or (s.buffer, inside)
        return Store(*found, build.map_expr(s.value, change))

    return tuple(map(copy, body))


def side_by_side(bodies: Sequence[Sequence[Work]]) -> tuple[Work, ...]:
    """The statements of several rounds, each of all of them before the next; their loops run together."""
    result: list[Work] = []
    for group in zip(*bodies, strict=True):
        first = group[0]
        if isinstance(first, For):
            inner = side_by_side([s.body for s in group if isinstance(s, For)])
            result.append(For(first.var, first.extent, inner, first.kind))  # type: ignore[arg-type]
        elif isinstance(first, Settle):
            result.append(first)
        else:
            result += group
    return tuple(result)


def can_be_side_by_side(part: Share) -> bool:
    """Whether the loops of all rounds have the same length."""
    own = {Var(v) for v in part.variables}
    inside = [s for s in _flat(part.body) if isinstance(s, For) and not isinstance(s.extent, int)]
    return not any(x in own for s in inside for x in build.walk(s.extent))  # type: ignore[arg-type]


def rounds_at_once(part: Share) -> int:
    """How many rounds stand side by side."""
    return max(1, min(_SIDE_BY_SIDE, _WRITTEN_OUT // max(_weight(part.body), 1)))


def written_out(body: Sequence[Work], whole: Callable[[For], bool]) -> tuple[Work, ...]:
    """The statements with short loops written out, and some runs of longer ones; but not those that `whole` names."""
    result: list[Work] = []
    for s in body:
        if not isinstance(s, For):
            result.append(s)
            continue
        inner = written_out(s.body, whole)
        own = sum(1 for x in _flat(inner))
        if not isinstance(s.extent, int) or any(isinstance(x, Combine | Settle) for x in inner):
            result.append(replace(s, body=inner))  # type: ignore[arg-type]
            continue
        if whole(s):  # NVIDIA's compiler writes it out by itself, and sooner
            result.append(replace(s, body=inner))  # type: ignore[arg-type]
            continue
        if s.extent * own <= _WRITTEN_OUT:
            result += _runs(inner, s.var, [build.index(i) for i in range(s.extent)])
            continue
        most = max(_AT_ONCE // own, 1)
        count = max(c for c in range(1, min(most, s.extent) + 1) if s.extent % c == 0)
        if count > 1:
            start = build.mul(Var(s.var), build.index(count))
            inner = _runs(inner, s.var, [build.add(start, build.index(i)) for i in range(count)])
        result.append(For(s.var, s.extent // count, inner, s.kind))  # type: ignore[arg-type]
    return tuple(result)


def _runs(body: Sequence[Work], var: str, places: Sequence[Expr]) -> tuple[Work, ...]:
    return tuple(build.substitute(s, var, place) for place in places for s in body)  # type: ignore[arg-type]


def _flat(body: Sequence[Work]) -> list[Work]:
    found: list[Work] = []
    for s in body:
        found.append(s)
        if isinstance(s, For | Nest):
            found += _flat(s.body)
    return found


def _weight(body: Sequence[Work]) -> int:
    return sum(1 for s in _flat(body) if not isinstance(s, For))
