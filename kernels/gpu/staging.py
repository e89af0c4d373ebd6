"""What a block brings to shared memory for its groups, and from there to the caller's arrays.

Problems lie one after the other in memory. Lanes of different groups that touch their own problems directly would each
touch another sector of it; where the block moves whole problems, neighbouring threads touch neighbouring elements.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from unfoldc.kernels.gpu.choices import GpuChoices
from unfoldc.kernels.gpu.places import GIVEN, Rows, element_type, lay_out
from unfoldc.kernels.loops import Buffer, LoopProgram

_SMALL_GROUP = 4  # lanes

Buffers = dict[str, Buffer]


@dataclass(frozen=True)
class Staging:
    """The inputs that the block brings before its lanes take their parts, and the outputs that it takes away.

    `over` gives those outputs that lie where an input was which is not read any more the name of that in shared memory.
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    over: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stager:
    """Decides what is staged. `private`: buffers that lanes keep to themselves; `unbatched`: the same for all problems.

    `late`: what is touched in the end of a problem; `early`: what is touched before.
    """

    program: LoopProgram
    choices: GpuChoices
    private: Collection[str]
    unbatched: Collection[str]
    early: Collection[str]
    late: Collection[str]

    def stage(self, block: Buffers, group: Buffers, rows: Mapping[str, Rows], first: int) -> Staging:
        """As much as fits, beside what a block and its groups have in shared memory from byte `first` on.

        `rows` says how lanes touch the rows of each buffer.
        """
        program, choices = self.program, self.choices

        def fits(more: Buffers) -> bool:
            return lay_out(block, {**group, **more}, choices, "group", rows, first)[1].nbytes <= choices.shared

        taken: Buffers = {}
        inputs: list[str] = []
        for name in sorted(n for n in program.inputs if n not in self.unbatched and self._is_small):
            larger = {**taken, self.home(name): program.buffers[name]}
            if not fits(larger):
                break
            taken = larger
            inputs.append(name)
        left = [self.home(n) for n in inputs if n in self.private or n not in self.late]
        left += [n for n in program.inputs if n in group and n not in (*inputs, *self.late)]
        over: dict[str, str] = {}
        outputs: list[str] = []
        for name in sorted(n for n in program.outputs if n not in self.unbatched and self._is_strided(n, rows)):
            place = self._room(name, [n for n in left if n not in over.values()])
            if place:
                over[name] = place
            elif fits({**taken, name: program.buffers[name]}):
                taken[name] = program.buffers[name]
            else:
                continue
            outputs.append(name)
        return Staging(tuple(inputs), tuple(outputs), over)

    def home(self, name: str) -> str:
        """The name of a staged input in shared memory. Where lanes keep it in registers, it is on its way there."""
        return GIVEN + name if name in self.private else name

    @property
    def _is_small(self) -> bool:
        return not self.choices.is_grid and self.choices.group <= _SMALL_GROUP

    def _is_strided(self, output: str, rows: Mapping[str, Rows]) -> bool:
        """Whether neighbouring lanes store elements far from each other."""
        several = self.choices.problems > 1 and rows.get(output, Rows()).axis >= 0
        return self._is_small or several

    def _room(self, output: str, left: list[str]) -> str:
        """The smallest of these inputs in shared memory, all read no more, in whose place an output can be; or ""."""
        buffers = self.program.buffers
        wanted = buffers[output]
        sizes = {n: buffers[n.removeprefix(GIVEN) if n not in buffers else n] for n in left}
        free = [
            (b.size, name)
            for name, b in sizes.items()
            if element_type(b.dtype) == element_type(wanted.dtype) and b.size >= wanted.size
        ]
        return "" if output in self.early or not free else min(free)[1]
