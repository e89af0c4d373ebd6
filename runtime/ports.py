"""From what a caller passes to the arrays an engine takes: the careful path, with every message about a wrong input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from unfoldc.errors import InputError, printable
from unfoldc.kernels.artifact import Port


def shape_text(port: Port, batch: int | None) -> str:
    """The shape a port takes, as a caller reads it: `(batch, 25)`, or with the number where the batch is fixed."""
    if not port.batched:
        return str(port.shape)
    return (
        "("
        + ", ".join(["batch" if batch is None else str(batch), *map(str, port.shape)])
        + ("," if not port.shape else "")
        + ")"
    )


def signature(ports: Sequence[Port], batch: int | None) -> str:
    """All ports in one line: `y (batch, 25) float32, H (25, 143) float32`."""
    return ", ".join(f"{printable(p.name)} {shape_text(p, batch)} {p.dtype}" for p in ports)


def bind(ports: Sequence[Port], positional: Sequence[Any], named: Mapping[str, Any], batch: int | None) -> list[Any]:
    """One value per port. Raises InputError where one is missing, unknown or given twice."""
    names = [p.name for p in ports]
    if len(positional) > len(ports):
        found, allowed = f"{len(positional)} arrays", signature(ports, batch)
        raise InputError("inputs", found, allowed, f"Pass at most {len(ports)}.")
    given = dict(zip(names, positional, strict=False))
    for name, value in named.items():
        if name not in names:
            raise InputError(f"input {name}", "no such input", signature(ports, batch), "Use one of these names.")
        if name in given:
            found = "given by position and by name"
            raise InputError(f"input {name}", found, signature(ports, batch), "Give it once.")
        given[name] = value
    for name in names:
        if name not in given:
            do = f"Pass {name} by position or by name."
            raise InputError(f"input {name}", "missing", signature(ports, batch), do)
    return [given[name] for name in names]


def batched(ports: Sequence[Port], problem: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays of one problem as those of a batch of one."""
    return [array[None] if port.batched else array for port, array in zip(ports, problem, strict=True)]


def as_typed(port: Port, dtype: np.dtype[Any], value: Any) -> np.ndarray:
    """The value as a contiguous, aligned array of the port's type. NaN passes: a diverging solver must be seen.

    Raises InputError for a kind of number that does not convert, and for values that the type cannot hold.
    """
    if type(value) is np.ndarray and value.dtype == dtype and value.flags.c_contiguous and value.flags.aligned:
        return value
    where = f"input {port.name}"
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(
            where, "a masked array", "an array without a mask", "Fill the masked entries, for example with .filled(0)."
        )
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(where, f"no array ({error})", f"an array of {dtype}", "Pass a NumPy array.") from None
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise InputError(
            where, f"element type {array.dtype}", f"{dtype}, or a type that converts to it",
            f"Convert it yourself, for example with .astype({port.dtype!r}).",
        )  # fmt: skip
    with np.errstate(over="ignore", invalid="ignore"):
        typed = np.require(array, dtype, ("C", "A"))
    if not np.can_cast(array.dtype, dtype, "safe") and not _same_values(array, typed):
        raise InputError(
            where, f"a value that {dtype} cannot hold", f"values within {dtype}", "Scale the input or check its unit."
        )
    return typed


class Shaped(Protocol):
    """An array, of NumPy or any other library."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes."""
        ...


def common_batch(ports: Sequence[Port], arrays: Sequence[Shaped], batch: int | None) -> int:
    """The number of problems, read from the arrays; `batch` is the one fixed at compile time or None.

    Raises InputError for a wrong shape and for inputs with different batches.
    """
    found, leader = batch, ""
    for port, array in zip(ports, arrays, strict=True):
        _check_shape(port, array, batch)
        if not port.batched:
            continue
        if found is None:
            found, leader = array.shape[0], port.name
        elif array.shape[0] != found:
            raise InputError(
                f"input {port.name}", f"a batch of {array.shape[0]}", f"{found}, the batch of {leader}",
                "Pass the same number of problems in every batched input.",
            )  # fmt: skip
    return 1 if found is None else found


def _same_values(before: np.ndarray, after: np.ndarray) -> bool:
    if after.dtype.kind == "f":
        finite = np.isfinite(after)
        return bool(finite.all() or (finite == np.isfinite(before)).all())
    return bool((after == before).all())


def _check_shape(port: Port, array: Shaped, batch: int | None) -> None:
    expected, shape = port.shape, array.shape
    if port.batched:
        if shape[1:] == expected and len(shape) == len(expected) + 1 and batch in (None, shape[0]):
            return
        if shape == expected:
            do = f"Add the batch axis: {port.name}[None]."
        elif shape[1:] == expected:
            do = f"This solver was compiled for batches of {batch}; compile it with batch='dynamic' for any other."
        else:
            do = _transpose_hint(port, shape) or "Reshape it; the first axis counts the problems."
    elif shape == expected:
        return
    else:
        do = _transpose_hint(port, shape) or "Reshape it."
    raise InputError(f"input {port.name}", f"shape {shape}", shape_text(port, batch), do)


def _transpose_hint(port: Port, shape: tuple[int, ...]) -> str:
    turned = shape[::-1]
    fits = turned[1:] == port.shape if port.batched else turned == port.shape
    return f"It fits when transposed: {port.name}.T." if fits and len(shape) > 1 else ""
