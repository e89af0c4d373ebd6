"""How much stack a firmware takes at most, read from its machine code: frames and calls, nothing is run."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.targets.processors import Processor
from unfoldc.targets.stack import text, thumb
from unfoldc.targets.stack.bound import Code, Step, stack_bound

__all__ = ["Code", "Step", "code_of", "stack_bound"]


def code_of(
    processor: Processor, image: bytes, start: int, data: Sequence[tuple[int, int]], frame_bytes: int | None
) -> Code:
    """A function whose machine code is `image`, at `start`; `data` are the ranges of addresses that hold none."""
    if processor.name == "thumb":
        words = tuple(thumb.instructions(image, start, data))
        return thumb.code_of(words, start, start + len(image), frame_bytes)
    return text.code_of(processor, image, start, data, frame_bytes)
