"""Approximations written as text, as on the command line: "newton-schulz:1,warm", "neumann:2,learn=scalar"."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

from unfoldc.errors import InputError
from unfoldc.unfold_train.approximations import APPROXIMATIONS
from unfoldc.unfold_train.approximations.base import Approximation


def names() -> dict[str, type[Approximation]]:
    """Every approximation under its name in text: NewtonSchulz is "newton-schulz"."""
    return {re.sub(r"(?<=.)(?=[A-Z])", "-", name).lower(): kind for name, kind in APPROXIMATIONS.items()}


def read_approximation(text: str, operation: str = "") -> Approximation:
    """The approximation that a text describes: its name, a colon, and options separated by commas.

    An option is a value for the next argument of the class, `warm` for warm_start=True, or name=value. With
    `operation`, only approximations of it are accepted. Raises InputError for all that does not fit.
    """
    name, _, rest = text.partition(":")
    known = {n: kind for n, kind in names().items() if not operation or operation in kind.operations}
    kind = known.get(name.strip())
    where = f"approximation {text!r}"
    if kind is None:
        raise InputError(where, f"unknown name {name!r}", ", ".join(sorted(known)), "Correct the name.")
    declared = inspect.signature(kind).parameters
    parameters = {n: p for n, p in declared.items() if p.kind is not p.VAR_KEYWORD}
    order = list(parameters)
    options: dict[str, object] = {}
    for part in (p.strip() for p in rest.split(",") if p.strip()):
        key, equals, value = part.partition("=")
        if part == "warm":
            key, value = "warm_start", "True"
        elif not equals:
            key, value = next((n for n in order if n not in options), ""), part
        if key not in parameters or key in options:
            raise InputError(where, f"the option {part!r}", ", ".join(_shown(parameters)), "Correct the option.")
        options[key] = _value(value)
    try:
        return kind(**options)
    except TypeError as problem:
        raise InputError(where, str(problem), ", ".join(_shown(parameters)), "Correct the options.") from None


def _shown(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    return [n if p.default is p.empty else f"{n}={p.default}" for n, p in parameters.items()]


def _value(text: str) -> object:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
