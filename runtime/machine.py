"""Which processor this is: code compiled for exactly one must not run on another."""

from __future__ import annotations

import functools
import hashlib
import platform
from pathlib import Path

_DESCRIBING = ("vendor_id", "model name", "cpu family", "model", "stepping", "flags", "Features", "CPU part", "isa")


@functools.cache
def processor() -> str:
    """A short digest of the processor's model and its instruction set extensions, the same for equal machines."""
    facts = [platform.system(), platform.machine()]
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() in _DESCRIBING:
                    facts.append(f"{key.strip()}={value.strip()}")
                if not line.strip():
                    break  # one core is enough, and the file is slow to read on machines with many
    except OSError:
        facts.append(platform.processor())
    return f"{platform.machine()}-{hashlib.sha256('|'.join(facts).encode()).hexdigest()[:16]}"
