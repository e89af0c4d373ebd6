"""Which iteration every operation belongs to: by the items of a ModuleList, or by markers in a plain loop."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from unfoldc.errors import ExportError
from unfoldc.export.from_markers import label_by_markers
from unfoldc.export.from_scopes import called_items, label_by_scopes, runs_inside
from unfoldc.export.labels import Labels
from unfoldc.export.listing import Listing

_MARK = (
    "write `x = unfoldc.iterate(x)`, with all tensors that the next iteration needs, as the last line of the "
    "loop's body"
)


@dataclass(frozen=True)
class Found:
    """The iterations of a listing. `how` says in words by what they were found; `path` is the ModuleList's, if any."""

    listing: Listing
    labels: Labels
    how: str
    path: str = ""


def find_iterations(
    listing: Listing, module: nn.Module, wanted: str | int | None, calls: Mapping[str, int] | None = None
) -> Found:
    """Label the operations of a listing that may still hold markers; the result holds none.

    Args:
        wanted: the path of a ModuleList, the number K, or None for the markers, else the ModuleList called in order.
        calls: how often each module ran, for the error message.

    Raises:
        ExportError: there are no iterations of the kind wanted, or several candidates.
    """
    if isinstance(wanted, str):
        check_path(module, wanted)
        count = _in_order(listing, module, wanted)
        return _by_scopes(listing, module, wanted, count)
    markers = len(listing.markers)
    if markers and wanted in (None, markers):
        labels, how = label_by_markers(listing)
        return _finish(listing, labels, f"{_number(markers, 'marker')}, {how}")
    lists = candidates(listing, module, calls or {})
    fitting = [path for path in lists if wanted in (None, lists[path])]
    if len({label_by_scopes(without_markers(listing), path) for path in fitting}) == 1:
        return _by_scopes(listing, module, fitting[0], lists[fitting[0]])
    raise _not_found(module, wanted, markers, lists, calls or {})


def candidates(listing: Listing, module: nn.Module, calls: Mapping[str, int]) -> dict[str, int]:
    """Paths of the ModuleLists whose items run once each, from the first on, and how many do; the outermost only.

    In the order in which they run. A list of one item counts only where there is no longer one, and if that item runs
    once. What runs in the items of another list is no candidate, wherever it stands in the module.
    """
    found: dict[str, int] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        if isinstance(part, nn.ModuleList) and len(part):
            called = [k for k, _ in called_items(listing, path)]
            again = len(called) == 1 and calls.get(f"{path}.0", 0) > 1
            if called and called == list(range(len(called))) and not again:
                found[path] = len(called)
    if any(count > 1 for count in found.values()):
        found = {path: count for path, count in found.items() if count > 1}
    found = {p: n for p, n in found.items() if not any(p.startswith(f"{outer}.") for outer in found)}
    outermost = [p for p in found if not any(runs_inside(listing, p, outer) for outer in found if outer != p)]
    return {p: found[p] for p in sorted(outermost, key=lambda p: called_items(listing, p)[0][1].start)}


def check_path(module: nn.Module, path: str) -> None:
    """Refuse a path that does not lead to a module with items 0, 1, ...

    Raises:
        ExportError: the module has no such part.
    """
    parts = dict(module.named_modules(remove_duplicate=False))
    if path and f"{path}.0" in parts:
        return
    lists = [p for p, part in parts.items() if isinstance(part, nn.ModuleList)]
    raise ExportError(
        f"iterations={path!r}",
        "no such list of modules" if path not in parts else f"a {type(parts[path]).__name__} without items 0, 1, ...",
        f"the path of a ModuleList of {type(module).__name__}: {', '.join(lists) or 'it has none'}",
        "Pass one of these paths, or None to find the iterations." if lists else f"In a plain loop, {_MARK}.",
    )


def _size(module: nn.Module, path: str) -> int:
    """Number of items of a list, in which one module may stand several times."""
    names = (name for name, _ in module.get_submodule(path).named_modules(remove_duplicate=False))
    return sum(name.isdecimal() for name in names)


def _in_order(listing: Listing, module: nn.Module, path: str) -> int:
    size = _size(module, path)
    called = [k for k, _ in called_items(listing, path)]
    if called and called == list(range(len(called))):
        return len(called)
    shown = ", ".join(map(str, called[:12])) + (", ..." if len(called) > 12 else "")
    raise ExportError(
        f"iterations={path!r}",
        f"its {size} items ran in the order {shown}" if called else "none of its items left an operation in the graph",
        "each item called once, as `item(x)`, in the order of the list",
        f"Call the items in order, or {_MARK}.",
    )


def _by_scopes(listing: Listing, module: nn.Module, path: str, count: int) -> Found:
    plain = without_markers(listing)
    size = _size(module, path)
    how = f"{_number(count, 'item')} of `{path}`" + (f", which has {size}" if size != count else "")
    return _finish(plain, label_by_scopes(plain, path), how, path)


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' if count != 1 else ''}"


def _finish(listing: Listing, labels: Labels, how: str, path: str = "") -> Found:
    marked = tuple(tuple(_resolved(listing, values)) for values in labels.marked)
    plain = without_markers(listing)
    return Found(plain, replace(labels.in_order_of(plain), marked=marked), how, path)


def without_markers(listing: Listing) -> Listing:
    """The listing with every marker replaced by the values it was given."""
    through = {after: before for m in listing.markers for before, after in zip(m.before, m.after, strict=True) if after}
    return replace(listing.substitute(through), markers=())


def _resolved(listing: Listing, values: Sequence[str]) -> Iterable[str]:
    through = {after: before for m in listing.markers for before, after in zip(m.before, m.after, strict=True) if after}
    for value in values:
        while value in through:
            value = through[value]
        yield value


def _not_found(
    module: nn.Module, wanted: int | str | None, markers: int, lists: Mapping[str, int], calls: Mapping[str, int]
) -> ExportError:
    where = type(module).__name__ if wanted is None else f"iterations={wanted}"
    shown = ", ".join(f"`{path}` ({count} items)" for path, count in lists.items())
    allowed = "the items of one ModuleList called in order, or the marker `unfoldc.iterate` in a plain loop"
    if lists and (wanted is None or list(lists.values()).count(int(wanted)) > 1):
        return ExportError(where, f"several lists of modules run in order: {shown}", allowed, "Pass the path of one.")
    if markers or lists:
        seen = " and ".join(filter(None, [f"{markers} markers" if markers else "", shown]))
        return ExportError(
            where, f"the module has {seen}", allowed, "Pass iterations=None, or a path, or fix the count."
        )
    shared = sorted((p for p, n in calls.items() if n > 1), key=lambda p: (p.count("."), -calls[p], p))
    found = "no iterations: no marker ran and no ModuleList has its items called in order"
    if shared:
        found = (
            f"no iterations: `{shared[0]}` runs {calls[shared[0]]} times, which leaves nothing to tell its calls apart"
        )
    return ExportError(where, found, allowed, re.sub("^w", "W", _MARK) + ".")
