"""What Thumb instructions do to the stack, from their bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unfoldc.targets.stack.bound import Code, Step

_SP, _LR, _PC = 13, 14, 15
# Address, first and second half of an instruction; None: it has one.
Word = tuple[int, int, int | None]


def code_of(words: Sequence[Word], start: int, end: int, frame_bytes: int | None) -> Code:
    """A function from `start` to `end` with those instructions."""
    return Code(start, end, tuple(_step(*word) for word in words), frame_bytes, _alignment(words))


def instructions(code: bytes, start: int, data: Sequence[tuple[int, int]] = ()) -> Iterator[Word]:
    """Address and halves of each instruction; `data` are the ranges of addresses that hold none."""
    at = start
    while at + 2 <= start + len(code):
        after = next((last for first, last in data if first <= at < last), 0)
        if after:
            at = after
            continue
        half = int.from_bytes(code[at - start : at - start + 2], "little")
        if half >> 11 in (0b11101, 0b11110, 0b11111):
            yield at, half, int.from_bytes(code[at - start + 2 : at - start + 4], "little")
            at += 4
        else:
            yield at, half, None
            at += 2


def _step(at: int, first: int, second: int | None) -> Step:
    call = first & 0xF800 == 0xF000 and second is not None and second & 0xD000 == 0xD000
    return Step(_taken(first, second), _target(at, first, second), call, _goes_anywhere(first, second))


def _alignment(words: Sequence[Word]) -> int:
    """Bytes that may be lost where a function aligns its frame: bfc r, #0, #n and then mov sp, r."""
    moved = {first >> 3 & 0xF for _, first, second in words if second is None and first & 0xFF87 == 0x4685}
    return sum(
        1 << (second & 0x1F) + 1
        for _, first, second in words
        if first == 0xF36F and second is not None and not second & 0x70C0 and second >> 8 & 0xF in moved
    )


def _taken(first: int, second: int | None) -> int | None:
    """Bytes that an instruction takes off the stack pointer; None where the code does not say how many."""
    if second is None:
        if first & 0xFE00 == 0xB400:  # push
            return 4 * (first & 0x1FF).bit_count()
        if first & 0xFF80 == 0xB080:  # sub sp, #
            return 4 * (first & 0x7F)
        return None if first & 0xFF87 in (0x4485, 0x4685) else 0  # add sp, r; mov sp, r
    if first == 0xE92D:  # push.w
        return 4 * second.bit_count()
    if first == 0xF84D and second & 0x0F00 == 0x0D00:  # str r, [sp, #-n]!
        return second & 0xFF
    if first == 0xE96D or (first & 0xFFBF == 0xED2D and second & 0x0E00 == 0x0A00):  # strd r, r, [sp, #-n]!, vpush
        return 4 * (second & 0xFF)
    if first & 0xFFEF == 0xEBAD:  # sub r, sp, r: an array of variable length
        return None
    number = (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
    if second >> 8 & 0xF == _SP and first & 0xFBFF == 0xF2AD:  # subw sp, sp, #
        return number
    if second >> 8 & 0xF == _SP and first & 0xFBEF == 0xF1AD:  # sub.w sp, sp, #
        return _expanded(number)
    return 0


def _expanded(number: int) -> int:
    """The constant that 12 bits of an instruction stand for."""
    byte = number & 0xFF
    if number >> 10:
        value, by = 0x80 | number & 0x7F, number >> 7
        return (value >> by | value << (32 - by)) & 0xFFFFFFFF
    return (byte, byte << 16 | byte, byte << 24 | byte << 8, byte * 0x01010101)[number >> 8]


def _goes_anywhere(first: int, second: int | None) -> bool:
    """Whether an instruction jumps to an address that is not in the code; a return does not count."""
    if second is None:
        return first & 0xFF00 == 0x4700 and first >> 3 & 0xF != _LR or first & 0xFF87 == 0x4687
    loads = first & 0xFF70 == 0xF850 and second >> 12 == _PC
    return loads and not (first == 0xF85D and second == 0xFB04)  # pop {pc}


def _target(at: int, first: int, second: int | None) -> int | None:
    """Where a call or a jump leads."""
    if second is None:
        if first & 0xF000 == 0xD000 and first >> 8 & 0xF < 14:
            return at + 4 + 2 * _signed(first & 0xFF, 8)
        return at + 4 + 2 * _signed(first & 0x7FF, 11) if first & 0xF800 == 0xE000 else None
    if first & 0xF800 != 0xF000 or not second & 0x8000 or second & 0xD000 == 0xC000:
        return None  # the last are loops of the Cortex-M55 (dls, le), which stay inside
    sign, j1, j2 = first >> 10 & 1, second >> 13 & 1, second >> 11 & 1
    if second & 0x1000:  # bl, b.w
        i1, i2 = 1 ^ j1 ^ sign, 1 ^ j2 ^ sign
        far = sign << 23 | i1 << 22 | i2 << 21 | (first & 0x3FF) << 11 | second & 0x7FF
        return at + 4 + 2 * _signed(far, 24)
    if first >> 6 & 0xF >= 14:
        return None
    near = sign << 19 | j2 << 18 | j1 << 17 | (first & 0x3F) << 11 | second & 0x7FF
    return at + 4 + 2 * _signed(near, 20)


def _signed(value: int, bits: int) -> int:
    return value - (value >> bits - 1 << bits)
