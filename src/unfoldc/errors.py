"""Errors that a user can act on: each is one paragraph that says where, what was found, what is allowed, what to do."""

from __future__ import annotations

from typing import Any


class UnfoldcError(Exception):
    """Base of all errors raised on purpose; the command line prints its text and no traceback.

    The four parts are kept as attributes (`where`, `found`, `allowed`, `do`): nobody need parse the text.
    """

    def __init__(self, where: str, found: str, allowed: str, do: str) -> None:
        self.where = printable(where)
        self.found = printable(found)
        self.allowed = printable(allowed)
        self.do = printable(do)
        super().__init__(f"{self.where}: {self.found}; allowed: {self.allowed}. {self.do}")


class ModelError(UnfoldcError):
    """The model file is damaged, hostile or uses something the compiler does not know."""


class InputError(UnfoldcError):
    """An array or an option given to a call does not fit."""


class TargetError(UnfoldcError):
    """The program does not fit the target, or the target cannot run it."""


class DeviceError(TargetError):
    """A connected device cannot be reached, went away, hangs, or answers what it should not.

    `partial` is what was measured before, where anything was: counts of shape `(repetitions, K + 2)`.
    """

    partial: Any = None


class ToolError(UnfoldcError):
    """An external tool is missing or failed."""


class TrainingError(UnfoldcError):
    """Training cannot start or did not stay finite."""


class ExportError(UnfoldcError):
    """A module cannot be exported, or its export disagrees with it."""


def printable(text: str, limit: int = 600) -> str:
    """One line of printable text: names from model files are untrusted, their control characters stay here."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= limit else line[: limit - 3] + "..."
