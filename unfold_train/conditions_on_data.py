"""Whether approximations converge on data: their conditions, and what would hold instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from unfoldc.unfold_train.approximations.base import Convergence
from unfoldc.unfold_train.approximations.conditions import that_hold
from unfoldc.unfold_train.call_sites import Memory, Visit, recording
from unfoldc.unfold_train.inputs import is_batched
from unfoldc.unfold_train.unfolded import Unfolded

MOST_PROBLEMS = 64


@torch.no_grad()
def convergence_warnings(network: Unfolded, inputs: Mapping[str, Tensor]) -> tuple[str, ...]:
    """One sentence for each call site whose approximation does not converge on the first of these problems, and for
    each whose matrices are so ill-conditioned that not even the exact answer has right digits."""
    few = {n: t[:MOST_PROBLEMS] if is_batched(network.solver, n, t) else t for n, t in inputs.items()}
    visits: list[Visit] = []
    for _ in network.trajectory(few, memory=Memory(observer=recording(visits))):
        pass
    return warnings_of(visits)


@torch.no_grad()
def warnings_of(visits: Iterable[Visit]) -> tuple[str, ...]:
    """The same for calls that were seen."""
    broken: dict[str, tuple[Convergence, Visit]] = {}
    conditions: dict[str, tuple[float, Visit]] = {}
    for visit in visits:
        found = None if visit.approximation is None else visit.approximation.convergence(*visit.arguments)
        if found is not None and not found.holds:
            known = broken.get(visit.site)
            if known is None or found.number > known[0].number:
                broken[visit.site] = (found, visit)
        if visit.operation in ("solve", "inverse"):
            number = _condition_number(visit.arguments[0])
            if visit.site not in conditions or number > conditions[visit.site][0]:
                conditions[visit.site] = (number, visit)
    texts = [_broken(site, *found) for site, found in broken.items()]
    return (*texts, *(t for site, found in conditions.items() if (t := _ill_conditioned(site, *found))))


def _broken(site: str, found: Convergence, visit: Visit) -> str:
    others = that_hold(visit.operation, visit.arguments)
    matrices = visit.operation in ("solve", "inverse", "svd")
    fails, of = ("does not converge", "problems") if matrices else ("is out of its range", "arguments")
    instead = "none of the family holds on these data" if matrices else 'a wider range or outside="clamp" would hold'
    return (
        f"site {site}, iteration {visit.iteration}: {visit.approximation!r} {fails} in "
        f"{100 * found.broken:.3g} % of the {of}: {found.name} is {found.number:.4g}, not below {found.limit:g}"
        f"; {', '.join(others) + ' would hold' if others else instead}"
    )


def _condition_number(A: Tensor) -> float:
    if not bool(torch.isfinite(A).all()):
        return float("inf")
    return float(torch.linalg.cond(A.double()).max())


def _ill_conditioned(site: str, number: float, visit: Visit) -> str:
    A: Any = visit.arguments[0]
    if number < 0.1 / torch.finfo(A.dtype).eps:
        return ""
    return (
        f"site {site}, iteration {visit.iteration}: a matrix with condition number {number:.3g} leaves no right digits "
        f"in {str(A.dtype).removeprefix('torch.')}; add a multiple of the identity, or use float64"
    )
