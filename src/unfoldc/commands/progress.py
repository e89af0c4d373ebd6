"""What a command says as it works: on a terminal a line that is wiped at the end, elsewhere a plain line at times."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from unfoldc.errors import printable

INTERVAL = 10.0
"""Seconds between plain lines: what takes less says nothing."""


@contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """A function that says on standard error what is going on."""
    with _line() if sys.stderr.isatty() else _log() as say:
        yield say


@contextmanager
def _line() -> Iterator[Callable[[str], None]]:
    def say(text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{printable(text)} ...")  # a device may have a say in it
        sys.stderr.flush()

    try:
        yield say
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


@contextmanager
def _log() -> Iterator[Callable[[str], None]]:
    """A line of text in every `INTERVAL`: what is going on then, and how long all took so far."""
    last, ended, start = "", threading.Event(), time.monotonic()

    def say(text: str) -> None:
        nonlocal last
        last = printable(text)

    def tell() -> None:
        while not ended.wait(INTERVAL):
            if last:
                with contextlib.suppress(OSError, ValueError):  # standard error may be closed
                    print(f"{time.monotonic() - start:.0f} s: {last}", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield say
    finally:
        ended.set()
        teller.join()
