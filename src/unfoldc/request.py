"""What a call of `compile` asks for, checked."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unfoldc.errors import InputError, ModelError

if TYPE_CHECKING:
    from unfoldc.targets import Target

_SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_LONGEST_TUNING = 7 * 24 * 3600.0  # seconds
TUNABLE = ("c", "numba", "tvm")
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """A model, what to make of it and with which tools; `model` is the content of the file at `path`."""

    path: Path
    model: bytes
    target: Target
    target_name: str
    backend: str
    options: dict[str, Any]
    symbol: str
    progress: Progress
    run: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    threads: int = 1
    measure: bool = False  # whether the back end is one of several, the fastest of which is kept
    sparse: bool = False
    allow_tf32: bool = False
    on: str | None = None
    tune: float = 0.0  # seconds
    tune_log: Path | None = None


def read_model(path: Path) -> bytes:
    """The content of the file; raises ModelError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            str(path), f"the file cannot be read ({error.strerror})", "a readable .onnx file", "Check the path."
        ) from None


def import_options(batch: int | str | None, dimensions: Mapping[str, int] | None) -> dict[str, Any]:
    """What the importer takes; raises InputError for lengths that are none."""
    fixed = (
        None if batch is None or batch == "dynamic" else _length("batch", batch, 'a positive number, "dynamic" or None')
    )
    lengths = {name: _length(f"dimension {name}", n, "a positive number") for name, n in (dimensions or {}).items()}
    return {"batch": fixed, "dimensions": lengths or None}


def _length(name: str, value: Any, allowed: str) -> int:
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise InputError(name, repr(value), allowed, "Change the option.")
    return number


def check_flags(backend: str, *, sparse: bool, allow_tf32: bool) -> None:
    """Raise InputError for a flag of another back end."""
    for name, given, of in (("sparse", sparse, "c"), ("allow_tf32", allow_tf32, "cuda")):
        if given and backend != of:
            raise InputError("compile", f"{name} with back end {backend!r}", f"back end {of}", "Leave one of them out.")


def checked_tuning(
    seconds: float | None, log: str | Path | None, backend: str, sparse: bool, on: str | None
) -> tuple[float, Path | None]:
    """Seconds to tune for (0: not at all) and the log.

    Raises InputError for a time that is none, and for a back end that cannot be tuned.
    """
    if seconds is None:
        if log is not None:
            raise InputError("tune_log", "given without tune", "tune=seconds with it", "Leave it out, or tune.")
        return 0.0, None
    real = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not real or not 0 < seconds <= _LONGEST_TUNING:
        raise InputError(
            "tune", repr(seconds), "seconds above 0, at most a week", "Change the option, or leave it out."
        )
    if backend not in TUNABLE:
        found, allowed = f"back end {backend!r}, which has no schedule of ours", ", ".join(TUNABLE)
        raise InputError("tune", found, f"back end {allowed}", "Choose one of these, or leave tune out.")
    if sparse:
        found = "together with sparse, whose time depends on the data"
        raise InputError("tune", found, "one of the two", "Leave one of them out.")
    if on is not None and on.startswith("serial:"):
        found = f"on {on}, where each candidate would have to be flashed"
        raise InputError("tune", found, "a place to which programs are sent", "Tune in the target's emulator.")
    return float(seconds), None if log is None else Path(log)


def checked_symbol(symbol: str) -> str:
    """The symbol; raises InputError unless it is a plain C identifier."""
    if not isinstance(symbol, str) or not _SYMBOL.fullmatch(symbol):
        raise InputError("symbol", repr(symbol), "a letter, then up to 39 letters, digits or _", "Choose another name.")
    return symbol


def silent(_: str) -> None:
    """Progress that nobody wants to see."""
    return None
