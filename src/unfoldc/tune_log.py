"""The log of a tuning: JSON lines, one for each schedule that was measured, to be used again and shared.

A log may come from anybody. Its lines are read as data: every field is checked, what does not fit is left out and
counted, and nothing of it reaches generated code but choices that `choices_for` offers for the target.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unfoldc.errors import InputError, printable
from unfoldc.kernels.schedule_choices import Value
from unfoldc.runtime.tuning_measure import Sample

FORMAT = 1
_LONGEST_LINE = 1 << 16  # characters
_MOST_BYTES = 1 << 26
_MOST_CHOICES = 64
_WORD = re.compile(r"[A-Za-z0-9_.+@:/-]{0,200}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Key:
    """What a figure holds for: a digest of the model and how it is imported, where it ran, and who compiled it."""

    model: str
    target: str
    processor: str
    backend: str


@dataclass(frozen=True)
class Entry:
    """A schedule that was tried. `choices` are those that differ from the default; `versions` those of the compilers.

    `samples` are empty where there is no figure: it was not built, or gave wrong answers, for `reason`.
    """

    key: Key
    versions: Mapping[str, str]
    choices: Mapping[str, Value]
    samples: Sequence[Sample]
    right: bool
    reason: str = ""

    @property
    def line(self) -> str:
        """The entry as a line of the log, with its end."""
        fields = {
            "format": FORMAT,
            **asdict(self.key),
            "versions": dict(self.versions),
            "choices": dict(self.choices),
            "right": self.right,
            "reason": printable(self.reason, 300),
            "figures": [asdict(sample) for sample in self.samples],
        }
        return json.dumps(fields, sort_keys=True) + "\n"


def read_log(path: Path) -> tuple[list[Entry], int]:
    """The entries of a log, and how many lines are none; nothing where there is no file.

    Raises InputError for what is no file, cannot be read or is larger than any log.
    """
    if not path.exists():
        return [], 0
    _check(path, path.is_file(), "it is no file")
    try:
        _check(path, path.stat().st_size <= _MOST_BYTES, "it is larger than 64 MiB")
        lines = path.read_bytes().decode("utf-8", errors="replace").splitlines()
    except OSError as error:
        raise _unusable(path, f"it cannot be read ({error.strerror})") from None
    found = [entry_of(line) for line in lines if line.strip()]
    entries = [e for e in found if e is not None]
    return entries, len(found) - len(entries)


def append(path: Path, entries: Iterable[Entry]) -> None:
    """Add entries at the end, each in one piece; a line that was cut off there stays alone. Raises InputError."""
    _check(path, path.is_file() or not path.exists(), "it is no file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            end = file.seek(0, 2)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            for entry in entries:
                file.write(entry.line.encode())
    except OSError as error:
        raise _unusable(path, f"it cannot be written ({error.strerror})") from None


def entry_of(line: str) -> Entry | None:
    """The entry on a line; None where the line is anything else."""
    if len(line) > _LONGEST_LINE:
        return None
    try:
        return _entry(json.loads(line, parse_constant=_refuse))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _entry(found: Any) -> Entry:
    if found["format"] != FORMAT:
        raise ValueError
    choices, versions, figures = found["choices"], found["versions"], found["figures"]
    if len(choices) > _MOST_CHOICES or len(versions) > _MOST_CHOICES or len(figures) > _MOST_CHOICES:
        raise ValueError
    if type(found["right"]) is not bool or not all(type(v) in (bool, int, str) for v in choices.values()):
        raise ValueError
    key = Key(*(_word(found[name]) for name in ("model", "target", "processor", "backend")))
    if not _DIGEST.fullmatch(key.model):
        raise ValueError
    samples = tuple(map(_sample, figures))
    if found["right"] and not samples:
        raise ValueError
    return Entry(
        key,
        {_word(name): _word(version) for name, version in versions.items()},
        {_word(name): value if type(value) is not str else _word(value) for name, value in choices.items()},
        samples,
        found["right"],
        printable(str(found["reason"]), 300),
    )


def _sample(found: Any) -> Sample:
    numbers = {n: _positive(found[n]) for n in ("candidate", "untuned", "ratio", "low", "high")}
    batch, spread = found["batch"], found["spread"]
    if type(batch) is not int or not 1 <= batch <= 1 << 40:
        raise ValueError
    if type(spread) not in (int, float) or not 0 <= spread < math.inf:
        raise ValueError
    return Sample(batch=batch, unit=_word(found["unit"]), spread=float(spread), **numbers)


def _positive(value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ValueError
    return float(value)


def _word(value: Any) -> str:
    if type(value) is not str or not _WORD.fullmatch(value):
        raise ValueError
    return value


def _refuse(_: str) -> None:
    raise ValueError


def _check(path: Path, right: bool, found: str) -> None:
    if not right:
        raise _unusable(path, found)


def _unusable(path: Path, found: str) -> InputError:
    return InputError(
        f"tuning log {path}", found, "a file of JSON lines that you may read and write, or none yet", "Choose another."
    )
