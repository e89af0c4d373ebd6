"""What the compiler must know of a device, as plain data; `unfoldc.targets` fills it in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TargetSpec:
    """A device as the compiler sees it.

    vector_bits: width of a vector register (0: none). batch_lanes: how many problems one call may solve side by side,
    one per vector lane (0: one at a time). accumulators: how many named scalars a register block may keep alive.
    first_cache: bytes of data that the cache next to the processor holds; the most there are, where it is not known.
    load_multiple: whether one instruction loads several neighbouring floats sooner than as many instructions do.
    flash_bytes / ram_bytes: what the device has, None where there is no such limit.
    """

    name: str
    word_bits: int
    vector_bits: int
    accumulators: int
    batch_lanes: int = 0
    float_types: tuple[str, ...] = ("float32", "float64")
    first_cache: int = 128 * 1024
    load_multiple: bool = False
    flash_bytes: int | None = None
    ram_bytes: int | None = None
