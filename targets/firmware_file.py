"""What an ELF file says: the image to load, what it takes of flash and RAM, where its functions are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unfoldc.errors import TargetError
from unfoldc.targets.description import Target, require_packages
from unfoldc.targets.processors import PROCESSORS, Processor
from unfoldc.targets.stack import Code, code_of, stack_bound

_PARTS = ("begin", "iterate", "end", "solve", "run", "iterations", "reset")
_NEEDED = ("main", "firmware_stack_top")
_ENTRIES = ("begin", "iterate", "end", "solve", "run")
_SYMBOL_TYPES = ("STT_FUNC", "STT_OBJECT", "STT_NOTYPE")


@dataclass(frozen=True)
class Function:
    """Machine code from `start`, `size` bytes; `frame_bytes` of stack, without what it calls (None: unknown)."""

    name: str
    start: int
    size: int
    frame_bytes: int | None = None


@dataclass(frozen=True)
class Firmware:
    """A linked program for a microcontroller.

    `flash_bytes`: code, constants and the initial values of data. `ram_bytes`: data and zeroed data, from the start of
    RAM to the end of the last section; the stack comes on top, at most `stack_bound_bytes` for a call of any of the
    solver's functions, interrupts not counted (None: the machine code does not tell). `image` holds (address, bytes) to
    be written to flash.
    """

    elf: Path
    symbol: str
    flash_bytes: int
    ram_bytes: int
    symbols: Mapping[str, int] = field(repr=False)
    functions: tuple[Function, ...] = field(repr=False)
    image: tuple[tuple[int, bytes], ...] = field(repr=False)
    stack_bound_bytes: int | None = None

    def locate(self, address: int) -> str:
        """`address` as a function's name, offset and the address itself, for messages."""
        i = bisect_right(self.functions, address, key=lambda f: f.start) - 1
        if i >= 0 and address < self.functions[i].start + max(self.functions[i].size, 1):
            f = self.functions[i]
            return f"{f.name}+{address - f.start:#x} ({address:#010x})"
        return f"{address:#010x}, where there is no code"


def read_firmware(elf: Path, symbol: str, target: Target) -> Firmware:
    """Read the firmware that `build_firmware` made for `symbol` and `target`; `TargetError` if it is no such file."""
    require_packages(["pyelftools"], f"reading {elf.name}")
    from elftools.common.exceptions import ELFError
    from elftools.elf.constants import P_FLAGS
    from elftools.elf.elffile import ELFFile

    if target.core is None or target.flash is None or target.ram is None:
        raise _not_firmware(elf, symbol, f"{target.name} takes no firmware")
    processor = PROCESSORS[target.core.architecture, target.spec.word_bits]
    try:
        with elf.open("rb") as stream:
            file: Any = ELFFile(stream)  # a section that is missing is an error of a damaged file, below
            segments = [s for s in file.iter_segments("PT_LOAD") if s["p_memsz"]]
            loads = [(s["p_paddr"], s["p_filesz"], s.data()) for s in segments if s["p_filesz"]]
            ends = [s["p_vaddr"] + s["p_memsz"] for s in segments if s["p_flags"] & P_FLAGS.PF_W]
            entries = list(file.get_section_by_name(".symtab").iter_symbols())
            symbols, functions = _symbols(entries, _frames(file))
            code = _code(entries, processor, functions, loads)
    except OSError as e:
        raise _not_firmware(elf, symbol, f"it cannot be read ({e.strerror})") from e
    # A damaged file makes pyelftools fail in many ways, not with its own error only.
    except (ELFError, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError, EOFError) as e:
        raise _not_firmware(elf, symbol, "it is not a whole ELF file") from e
    missing = [name for name in (*_NEEDED, *(f"{symbol}_firmware_{n}" for n in _PARTS)) if name not in symbols]
    if missing:
        raise _not_firmware(elf, symbol, f"it has no {missing[0]}")
    if any(not target.flash.start <= at <= at + size <= target.flash.end for at, size, _ in loads):
        raise _not_firmware(elf, symbol, f"it was linked for other addresses than those of {target.name}")
    return Firmware(
        elf=elf,
        symbol=symbol,
        flash_bytes=max(at + size for at, size, _ in loads) - target.flash.start,
        ram_bytes=max(ends, default=target.ram.start) - target.ram.start,
        symbols=symbols,
        functions=functions,
        image=tuple((at, data) for at, _, data in loads),
        stack_bound_bytes=stack_bound(code, [symbols[f"{symbol}_firmware_{n}"] & ~1 for n in _ENTRIES]),
    )


def _code(
    entries: Sequence[Any], processor: Processor, functions: Sequence[Function], loads: Sequence[tuple[int, int, bytes]]
) -> dict[int, Code]:
    """The functions' instructions. Symbols `$t` or `$x` and `$d` say where code and where data starts."""
    marks = sorted((s["st_value"] & ~1, s.name[1]) for s in entries if s.name[:2] in ("$t", "$x", "$d"))
    ends = [at for at, _ in marks[1:]] + [1 << 64]
    data = [(at, end) for (at, kind), end in zip(marks, ends, strict=True) if kind == "d"]
    found = {}
    for f in functions:
        for at, _, image in loads:
            if at <= f.start < at + len(image):
                inside = [(first, last) for first, last in data if last > f.start and first < f.start + f.size]
                body = image[f.start - at : f.start - at + f.size]
                found[f.start] = code_of(processor, body, f.start, inside, f.frame_bytes)
    return found


def _symbols(entries: Sequence[Any], frames: Mapping[int, int]) -> tuple[dict[str, int], tuple[Function, ...]]:
    functions = {}
    named = [s for s in entries if s.name and s["st_info"]["type"] in _SYMBOL_TYPES]
    for s in named:
        if s["st_info"]["type"] == "STT_FUNC":
            start = s["st_value"] & ~1  # the lowest bit says that the code is Thumb
            functions[start] = Function(s.name, start, s["st_size"], frames.get(start))
    names = {s.name: s["st_value"] for s in named if not s.name.startswith("$")}
    return names, tuple(functions[start] for start in sorted(functions))


def _frames(file: Any) -> dict[int, int]:
    """Function address -> bytes of its stack frame; `.stack_sizes` holds pairs: address (a word), size (ULEB128)."""
    section = file.get_section_by_name(".stack_sizes")
    data, width = section.data() if section else b"", file.elfclass // 8
    frames, i = {}, 0
    while i + width < len(data):
        address, size, shift, i = int.from_bytes(data[i : i + width], "little"), 0, 0, i + width
        while i < len(data):
            byte = data[i]
            size |= (byte & 0x7F) << shift
            shift, i = shift + 7, i + 1
            if byte < 0x80:
                break
        frames[address & ~1] = size
    return frames


def _not_firmware(elf: Path, symbol: str, found: str) -> TargetError:
    return TargetError(
        where=f"firmware {elf.name}",
        found=found,
        allowed=f"a firmware built by unfoldc for '{symbol}'",
        do="Compile the model again for this target.",
    )
