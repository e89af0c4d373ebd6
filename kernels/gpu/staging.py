"""What a block brings to shared memory for its small groups, and from there to the caller's arrays.

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
        """As much as fits, beside what a block and its groups have in shared memory from byte `first` on."""
        program, choices = self.program, self.choices
        if choices.is_grid or choices.group > _SMALL_GROUP:
            return Staging()

        def fits(more: Buffers) -> bool:
            return lay_out(block, {**group, **more}, choices, "group", rows, first)[1].nbytes <= choices.shared

        taken: Buffers = {}
        inputs: list[str] = []
        for name in sorted(n for n in program.inputs if n not in self.unbatched):
            larger = {**taken, self.home(name): program.buffers[name]}
            if not fits(larger):
                break
            taken = larger
            inputs.append(name)
        over: dict[str, str] = {}
        outputs: list[str] = []
        for name in sorted(n for n in program.outputs if n not in self.unbatched):
            place = self._left_by(name, [i for i in inputs if self.home(i) not in over.values()])
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

    def _left_by(self, output: str, inputs: list[str]) -> str:
        """The smallest staged input in whose place the output can be; "" for none."""
        buffers = self.program.buffers
        wanted = buffers[output]
        free = [
            buffers[n]
            for n in inputs
            if (n in self.private or n not in self.late)
            and element_type(buffers[n].dtype) == element_type(wanted.dtype)
            and buffers[n].size >= wanted.size
        ]
        if output in self.early or not free:
            return ""
        return self.home(min(free, key=lambda b: (b.size, b.name)).name)
