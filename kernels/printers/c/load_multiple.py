"""Reads of neighbouring numbers as one statement, one instruction where an Arm processor has it (`vldm`).

A compiler picks the registers of single loads so that they can rarely become one; here the block says which they are.
The other numbers stay in what registers the compiler likes. It would also read all blocks first and put them aside in
memory; a sum that was added to before is named as if the load changed it, so that a block is read where it stands.
Where there is no such instruction, or no way to say so, the same statement is as many loads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unfoldc.kernels import build
from unfoldc.kernels.loops import Assign, Buffer, Let, Load, Local, Stmt
from unfoldc.kernels.passes.load_blocks import place_of

_BANKS = (16, 20, 24, 28, 8, 12)  # of four registers each, the first one's number
_LONGEST, _SHORTEST = 8, 3  # numbers of a block

_HEAD = """\
/* LOAD_<how many>_S<register of the first>: numbers that lie side by side, by one instruction where there is one. It
 * names a sum so that it stays behind what was added to it before. */
#if defined(__GNUC__) && defined(__arm__) && defined(__ARM_FP) && !defined(__SOFTFP__)
#define @REGISTER(a, r) register float a __asm__(r)
@DEFINITIONS
#else
@PLAIN
#endif
"""


@dataclass(frozen=True)
class Block:
    """The scalars `<name>0`, `<name>1`, ..., in registers from `register` on."""

    name: str
    length: int
    register: int
    first: Load
    sum: str


class LoadMultiple:
    """Finds the blocks of a body and collects the macros that they call."""

    def __init__(self, symbol: str, buffers: Mapping[str, Buffer]) -> None:
        self.symbol, self.buffers = symbol, buffers
        self._used: set[tuple[int, int]] = set()

    def blocks(self, body: Sequence[Stmt]) -> dict[int, Block]:
        """The blocks by the place of their first scalar in the body; where registers run out, scalars stay as such."""
        found: dict[int, Block] = {}
        busy: dict[int, int] = {}  # bank -> the last statement that needs it
        for i, s in enumerate(body):
            run = self._run(body, i)
            if run is None or not isinstance(s, Let) or not isinstance(s.value, Load):
                continue
            name, length = run
            free = [bank for bank in _BANKS if busy.get(bank, -1) < i]
            register = next((r for r in free if length <= 4 or (r % 8 == 0 and r + 4 in free)), None)
            if register is None:
                continue
            last = _last_use(body, name, length)
            busy.update(dict.fromkeys(range(register, register + length, 4), last))
            found[i] = Block(name, length, register, s.value, _sum(body, i))
            self._used.add((length, register))
        return found

    def _run(self, body: Sequence[Stmt], i: int) -> tuple[str, int] | None:
        """The name and length of a block that starts here: rows of results have such names, too, but lie apart."""
        s = body[i]
        if not isinstance(s, Let) or s.mutable or not s.name.endswith("_0") or not isinstance(s.value, Load):
            return None
        name = s.name.removesuffix("0")
        memory, start = place_of(s.value, self.buffers)
        length = 0
        for length, scalar in enumerate((*body[i : i + _LONGEST], None)):
            if not isinstance(scalar, Let) or scalar.name != f"{name}{length}" or not isinstance(scalar.value, Load):
                break
            if scalar.value.dtype != "float32" or place_of(scalar.value, self.buffers) != (memory, start + length):
                break
        return (name, length) if length >= _SHORTEST else None

    def call(self, block: Block, element: str) -> str:
        """The statement that reads a block."""
        return f"{self.symbol}_LOAD_{block.length}_S{block.register}({block.name}, &{element}, {block.sum});"

    def texts(self) -> list[str]:
        """The definitions of all macros that were used."""
        if not self._used:
            return []
        used = sorted(self._used)
        plain = [_plain(length, register) for length, register in used]
        made = [_definition(length, register) for length, register in used]
        text = _HEAD.replace("@DEFINITIONS", "\n".join(made)).replace("@PLAIN", "\n".join(plain))
        return text.replace("@", f"{self.symbol}_").splitlines()


def _sum(body: Sequence[Stmt], i: int) -> str:
    """The sum of the nearest statement before, else behind, that adds to one."""
    names = [s.name for s in (*reversed(body[:i]), *body[i:]) if isinstance(s, Assign)]
    return names[0]


def _last_use(body: Sequence[Stmt], name: str, length: int) -> int:
    names = {f"{name}{n}" for n in range(length)}
    return max(
        i
        for i, s in enumerate(body)
        if (isinstance(s, Let) and s.name in names)
        or any(isinstance(e, Local) and e.name in names for e in build.within((s,)))
    )


def _definition(length: int, register: int) -> str:
    lines = [f"#define @LOAD_{length}_S{register}(a, p, sum)"]
    lines += [f'    @REGISTER(a##{i}, "s{register + i}");' for i in range(length)]
    lines.append(f'    __asm__("vldm %{length + 1}, {{s{register}-s{register + length - 1}}}"')
    results = [f'"=t"(a##{i})' for i in range(length)]
    lines += [
        f"            {': ' if not first else '  '}{', '.join(results[first : first + 4])},"
        for first in range(0, length, 4)
    ]
    lines += ['              "+t"(sum)', f'            : "r"(p), "m"(*(const float (*)[{length}])(p)))']
    return " \\\n".join(lines)


def _plain(length: int, register: int) -> str:
    rows = [f"    const float a##{i} = (p)[{i}]" for i in range(length)]
    lines = [f"#define @LOAD_{length}_S{register}(a, p, sum)", *(f"{row};" for row in rows[:-1]), rows[-1]]
    return " \\\n".join(lines)
