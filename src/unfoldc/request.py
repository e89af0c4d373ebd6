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
    on: str | None = None


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


def checked_symbol(symbol: str) -> str:
    """The symbol; raises InputError unless it is a plain C identifier."""
    if not isinstance(symbol, str) or not _SYMBOL.fullmatch(symbol):
        raise InputError("symbol", repr(symbol), "a letter, then up to 39 letters, digits or _", "Choose another name.")
    return symbol


def silent(_: str) -> None:
    """Progress that nobody wants to see."""
    return None
