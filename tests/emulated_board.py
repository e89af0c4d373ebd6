"""A board whose UART is a pseudo-terminal of this computer's, as QEMU emulates it."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path


@contextlib.contextmanager
def emulated(machine: Sequence[str], elf: Path, before: int = 0) -> Iterator[str]:
    """The port of a machine that runs `elf` while the block does: its UART behind the first `before`.

    `machine` is the command that selects it.
    """
    command = [*machine, "-kernel", str(elf), "-display", "none", "-monitor", "none"]
    command += [*["-serial", "null"] * before, "-serial", "pty"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as qemu:
        try:
            assert qemu.stdout
            found = re.search(r"/dev/\S+", qemu.stdout.readline())
            assert found
            yield found[0]
        finally:
            qemu.kill()
