"""One kernel: the lanes' parts as the text of a Python function."""

from __future__ import annotations

from dataclasses import dataclass, field

from unfoldc.kernels.gpu.choices import WARP
from unfoldc.kernels.gpu.mapping import Mapped, all_leaves
from unfoldc.kernels.gpu.parts import Barrier, Combine, InStep, Parts, Remark, Share
from unfoldc.kernels.gpu.places import GIVEN, element_type, lane_elements
from unfoldc.kernels.loops import ITERATION
from unfoldc.kernels.printers.cuda.arguments import Arguments
from unfoldc.kernels.printers.cuda.dealer import PAD, Dealer
from unfoldc.kernels.printers.cuda.places import Positions
from unfoldc.kernels.printers.cuda.work import WorkPrinter
from unfoldc.kernels.printers.python_text import Names, comment


@dataclass
class KernelPrinter:
    """Prints the kernel `name`, which stamps the time where the caller gives it room for that."""

    mapped: Mapped
    arguments: Arguments
    names: Names
    name: str
    lines: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The function."""
        mapped, choices = self.mapped, self.mapped.choices
        self.lines = [f"def {self.name}({', '.join(self.arguments.names)}):"]
        self._head()
        if mapped.once:
            self._parts(mapped.once, Dealer("thread", choices.block_threads), 1)
            self._add(1, "cuda.syncthreads()")
        dealer = Dealer("lane", choices.group, is_grid=choices.is_grid)
        self._parts(mapped.own, dealer, 1)
        self._problem_loop()
        for parts in (mapped.load, mapped.begin):
            self._parts(parts, dealer, 2)
        self._stamp(2, "1")
        k = self.names(ITERATION, "int32")
        for step in mapped.steps:
            self._add(2, f"for {k} in range({step.first}, minimum({step.first + step.count}, iterations)):")
            self._parts(step.parts, dealer, 3)
            self._stamp(3, f"2 + {k}")
        self._parts(mapped.end, dealer, 2)
        self._unstage()
        self._stamp(2, str(mapped.program.iterations + 2))
        return "\n".join([*self.lines, ""])

    def _add(self, depth: int, *lines: str) -> None:
        self.lines += [PAD * depth + line for line in lines]

    def _head(self) -> None:
        """Numbers of lanes, and names for memory."""
        mapped, choices = self.mapped, self.mapped.choices
        self._add(1, "thread = cuda.threadIdx.x")
        if choices.is_grid:
            self._add(1, f"lane = cuda.blockIdx.x * {choices.threads} + thread")
            self._add(1, f"lanes = cuda.gridDim.x * {choices.threads}")
        elif choices.problems > 1 and choices.group > 1:
            self._add(1, f"lane = thread & {choices.group - 1}", f"group = thread >> {choices.group.bit_length() - 1}")
        else:
            self._add(1, "lane = 0" if choices.group == 1 else "lane = thread")
            if choices.problems > 1:
                self._add(1, "group = thread")
        for team in sorted({p.team for p in self._shares() if p.team > 1}):
            self._add(1, f"team_{team} = lane >> {team.bit_length() - 1}", f"lane_{team} = lane & {team - 1}")
        wide = {s.dtype for leaf in all_leaves(mapped) for s in leaf.body if isinstance(s, Combine) and s.team > WARP}
        self._add(1, *(f"exchange_{dtype} = shared(np.{dtype})" for dtype in sorted(wide)))
        for kind, region in (("shared", mapped.shared), ("work", mapped.workspace)):
            for dtype, step in region.steps.items():
                if kind == "shared":
                    self._add(1, f"shared_{dtype} = shared(np.{dtype})")
                else:
                    block = "0" if choices.is_grid else f"cuda.blockIdx.x * {region.nbytes}"
                    self._add(1, f"work_{dtype} = elements(workspace, {block}, np.{dtype})")
                if choices.problems > 1 and step:
                    self._add(1, f"{kind}_first_{dtype} = group * {step}")
        for name, place in sorted(mapped.places.items()):
            if place.is_private:
                buffer = mapped.buffers[name]
                size = buffer.size if place.owner is None else lane_elements(buffer, place.owner, choices.group)
                array = f"cuda.local.array({size}, types.{element_type(buffer.dtype)})"
                self._add(1, f"{self.names(name, 'buffer')} = {array}")
        self._add(1, "stamped = stamping(ticks, thread)")
        self._stamp(1, "0")

    def _shares(self) -> list[Share]:
        return [leaf for leaf in all_leaves(self.mapped) if isinstance(leaf, Share)]

    def _problem_loop(self) -> None:
        choices, program = self.mapped.choices, self.mapped.program
        if choices.is_grid:
            self._add(1, "for problem in range(batch):")
        elif choices.problems == 1:
            self._add(1, "for problem in range(cuda.blockIdx.x, batch, cuda.gridDim.x):")
        else:
            count = choices.problems
            self._add(1, f"for first in range(cuda.blockIdx.x * {count}, batch, cuda.gridDim.x * {count}):")
            self._add(2, "valid = first + group < batch", "problem = minimum(first + group, batch - 1)")
        self._stage()
        staging = self.mapped.staging
        for name in (*program.inputs, *program.outputs):
            if self.arguments.ports[name].batched and name not in (*staging.inputs, *staging.outputs):
                self._add(2, f"first_{self.arguments.array(name)} = problem * {program.buffers[name].size}")

    def _stage(self) -> None:
        """The block's problems lie in a row: neighbouring threads bring neighbouring elements of them."""
        staging = self.mapped.staging
        if staging.inputs or staging.outputs:
            self._add(2, "cuda.syncthreads()")
        for name in staging.inputs:
            here, there = self._moved(name)
            self._add(3, f"{here} = {there}")
        if staging.inputs:
            self._add(2, "cuda.syncthreads()")

    def _unstage(self) -> None:
        if self.mapped.staging.outputs:
            self._add(2, "cuda.syncthreads()")
        for name in self.mapped.staging.outputs:
            here, there = self._moved(name)
            self._add(3, f"{there} = {here}")

    def _moved(self, name: str) -> tuple[str, str]:
        """A loop over the elements of the block's problems; an element in shared memory, and in the caller's array."""
        mapped, choices = self.mapped, self.mapped.choices
        first, count = "problem", "1"
        if choices.problems > 1:
            first, count = "first", f"minimum({choices.problems}, batch - first)"
        buffer, place = mapped.buffers[name], mapped.places[name if name not in mapped.copied else GIVEN + name]
        dtype, size = element_type(buffer.dtype), buffer.size
        group = f"whole(at, {size}) * {mapped.shared.steps[dtype]} + rest(at, {size}) + {place.offset}"
        self._add(2, f"for at in range(thread, {count} * {size}, {choices.block_threads}):")
        return f"shared_{dtype}[{group}]", f"{self.arguments.array(name)}[{first} * {size} + at]"

    def _stamp(self, depth: int, slot: str) -> None:
        place = f"cuda.blockIdx.x * {self.mapped.program.iterations + 3} + {slot}"
        self._add(depth, "if stamped:", f"{PAD}ticks[{place}] = cycles()")

    def _parts(self, parts: Parts, dealer: Dealer, depth: int) -> None:
        positions = Positions(self.mapped, self.arguments, self.names)
        for part in parts:
            if isinstance(part, Remark):
                self._add(depth, *comment(part.origins))
            elif isinstance(part, Barrier):
                self._barrier(depth)
            elif isinstance(part, InStep):
                work = WorkPrinter(self.mapped, positions, self.names, dealer)
                count = part.extent if isinstance(part.extent, int) else work.expressions.text(part.extent)
                self._add(depth, f"for {self.names(part.variable, 'int32')} in range({count}):")
                before = len(self.lines)
                self._parts(part.body, dealer, depth + 1)
                if len(self.lines) == before:
                    self._add(depth + 1, "pass")
            else:
                self._add(depth, *WorkPrinter(self.mapped, positions, self.names, dealer).part(part))

    def _barrier(self, depth: int) -> None:
        choices = self.mapped.choices
        if choices.is_grid:
            self._add(depth, "grid_barrier(workspace)")
        elif choices.group > WARP:
            self._add(depth, "cuda.syncthreads()")
        else:
            self._add(depth, "barrier()")
