"""Progress of a training run: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_INTERVAL = 10.0
"""Seconds after which a line is due, where steps were done."""


class TrainingProgress:
    """A bar on the standard error output.

    Where that is no terminal: a line at the start, one for each quarter of the steps, and one wherever the last was
    `_INTERVAL` seconds ago. `unit` is what is counted.
    """

    def __init__(self, title: str, steps: int, shown: bool = True, unit: str = "steps") -> None:
        self.title = title
        self.steps = steps
        self.shown = shown
        self.unit = unit
        self.quarter = 0
        self.said = 0.0
        console = Console(file=sys.stderr)
        self.bar: Progress | None = None
        if shown and console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self.bar = Progress(*columns, console=console, transient=False)
            self.task = self.bar.add_task(title, total=steps, note="")

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        elif self.shown:
            self._say("...")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, step: int, note: str = "", steps: int | None = None) -> None:
        """Say how many steps are done; `steps` corrects their number."""
        self.steps = self.steps if steps is None else steps
        if self.bar is not None:
            self.bar.update(self.task, completed=step, total=self.steps, note=note)
        elif self.shown and self.steps:
            quarter = 4 * step // self.steps
            if quarter > self.quarter or time.monotonic() - self.said >= _INTERVAL:
                self.quarter = quarter
                self._say(f"{step} of {self.steps} {self.unit}{f', {note}' if note else ''}")

    def _say(self, text: str) -> None:
        self.said = time.monotonic()
        print(f"{self.title}{' ' if text == '...' else ': '}{text}", file=sys.stderr, flush=True)
