"""Progress of a training run: a bar on a terminal, a few short lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress:
    """A bar on the standard error output; where that is no terminal, one line for each quarter of the steps."""

    def __init__(self, title: str, steps: int, shown: bool = True) -> None:
        self.title = title
        self.steps = steps
        self.shown = shown
        self.quarter = 0
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
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, step: int, note: str, steps: int | None = None) -> None:
        """Say how many steps are done; `steps` corrects their number."""
        self.steps = self.steps if steps is None else steps
        if self.bar is not None:
            self.bar.update(self.task, completed=step, total=self.steps, note=note)
        elif self.shown and self.steps and 4 * step // self.steps > self.quarter:
            self.quarter = 4 * step // self.steps
            print(f"{self.title}: {step} of {self.steps} steps, {note}", file=sys.stderr, flush=True)
