"""A module's answer as a list of tensors with names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from unfoldc.errors import ExportError, InputError
from unfoldc.export.examples import check_names


def choose_output_names(answer: Any, inputs: Sequence[str], given: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the outputs: the keys of a dictionary, `x` for one tensor, else `output0`, `output1`, ...

    Raises:
        InputError: the names given do not fit.
    """
    count = len(flatten(answer))
    if given is not None:
        names = check_names("output_names", given, count)
        if set(names) & set(inputs):
            both = next(n for n in names if n in inputs)
            raise InputError(
                "output_names", f"{both!r} for an input and an output", "distinct names", "Pass other output_names."
            )
        return names
    if isinstance(answer, Mapping) and all(isinstance(v, Tensor) for v in answer.values()):
        names = tuple(map(str, answer))
    elif hasattr(answer, "_fields") and len(answer._fields) == count:
        names = tuple(answer._fields)
    else:
        names = ("x",) if count == 1 else tuple(f"output{i}" for i in range(count))
    return tuple(f"{name}_out" if name in inputs else name for name in names)


def flatten(answer: Any) -> list[Tensor]:
    """The tensors of a module's answer, in order.

    Raises:
        ExportError: it holds something else.
    """
    if isinstance(answer, Tensor):
        return [answer]
    if isinstance(answer, Mapping):
        return [t for value in answer.values() for t in flatten(value)]
    if isinstance(answer, list | tuple) and answer:
        return [t for value in answer for t in flatten(value)]
    raise ExportError(
        "forward",
        f"it returns a {type(answer).__name__}",
        "a tensor, or a tuple, list or dictionary of tensors",
        "Return tensors only; keep what is for logs on another method.",
    )
