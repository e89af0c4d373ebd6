"""One kernel: the lanes' parts as a function in TVM's script."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from unfoldc.kernels.gpu.choices import WARP
from unfoldc.kernels.gpu.mapping import Mapped, MappedStep, all_leaves
from unfoldc.kernels.gpu.parts import Barrier, Combine, InStep, Parts, Remark, Share
from unfoldc.kernels.gpu.places import GIVEN, element_type, lane_elements
from unfoldc.kernels.loops import ITERATION
from unfoldc.kernels.printers.cuda.arguments import Arguments
from unfoldc.kernels.printers.cuda.dealer import PAD, Dealer, deeper
from unfoldc.kernels.printers.python_text import Names, comment
from unfoldc.kernels.printers.tvm_cuda.work import WAIT_BLOCK, WAIT_WARP, KernelText, WorkPrinter

_QUOTIENT = "T.truncdiv({0}, {1})"
_ON_DEVICE = 2  # TVM's number for functions that are launched
_WAIT_GRID = 'T.evaluate(T.call_extern("void", "grid_barrier", workspace_data))'


@dataclass
class KernelPrinter:
    """Prints the kernel `name`, which stamps the time where the caller gives it room for that."""

    mapped: Mapped
    arguments: Arguments
    names: Names
    name: str
    kernel: KernelText = field(init=False)

    def text(self) -> str:
        """The function, a method of the script's module."""
        mapped, choices = self.mapped, self.mapped.choices
        self.kernel = KernelText(mapped, self.arguments, self.names)
        dealer = Dealer("lane", choices.group, choices.is_grid, _QUOTIENT)
        body = [*self._places()]
        if mapped.once:
            body += [*self._parts(mapped.once, Dealer("thread", choices.block_threads)), WAIT_BLOCK]
        body += self._parts(mapped.own, dealer)
        inner = self._parts(mapped.load, dealer) + self._parts(mapped.begin, dealer) + self._stamp("1")
        for step in mapped.steps:
            inner += self._step(step, dealer)
        inner += self._parts(mapped.end, dealer) + self._unstage() + self._stamp(str(mapped.program.iterations + 2))
        body += self._problems(inner)
        lines = [*self._head(), *self._scalars(), *body]
        return "\n".join(deeper([*self._signature(), *deeper(lines)])) + "\n"

    def _signature(self) -> list[str]:
        parameters = [
            f'{name}_data: T.handle("{kind[:-1]}", "global")' if kind.endswith("*") else f"{name}: T.{kind}"
            for name, kind in ((str(row[0]), str(row[1])) for row in self.arguments.rows)
        ]
        return ["@T.prim_func(s_tir=True)", f"def {self.name}({', '.join(parameters)}):"]

    def _head(self) -> list[str]:
        """The launch, and the arrays of the caller's."""
        lines = [
            f'T.func_attr({{"global_symbol": "{self.name}", "calling_conv": {_ON_DEVICE}}})',
            'blocks: T.let[T.int32] = T.call_extern("int32", "grid_blocks")',
            'block = T.launch_thread("blockIdx.x", blocks)',
            f'thread = T.launch_thread("threadIdx.x", {self.mapped.choices.block_threads})',
        ]
        for name, kind in ((str(row[0]), str(row[1])) for row in self.arguments.rows):
            if kind.endswith("*") and name != "workspace":
                lines.append(f'{name} = T.decl_buffer((1,), "{kind[:-1]}", data={name}_data)')
        return lines

    def _scalars(self) -> list[str]:
        expressions = self.kernel.expressions
        lines = [f'{name} = T.alloc_local((1,), "{dtype}")' for name, dtype in expressions.scalars.items()]
        return lines + [f"{zero} = T.{dtype}(0.0)" for dtype, zero in expressions.zeros.items()]

    def _places(self) -> list[str]:
        """Numbers of lanes, and names for memory."""
        mapped, choices = self.mapped, self.mapped.choices
        lines = [_constant(name, value) for name, value in self._numbers()]
        if mapped.shared.nbytes:
            lines.append(f'memory = T.alloc_buffer(({mapped.shared.nbytes},), "uint8", scope="shared.dyn")')
        leaves = all_leaves(mapped)
        wide = {s.dtype for leaf in leaves for s in leaf.body if isinstance(s, Combine) and s.team > WARP}
        for name, dtype in (*(("exchange", d) for d in sorted(wide)), *(("shared", d) for d in mapped.shared.steps)):
            data = 'data=memory.data, scope="shared.dyn"'
            lines.append(f'{name}_{dtype} = T.decl_buffer((1,), "{dtype}", {data})')
        for dtype, step in mapped.shared.steps.items():
            if choices.problems > 1:
                lines.append(_constant(f"shared_first_{dtype}", f"group * {step}"))
        for dtype, step in mapped.workspace.steps.items():
            lines.append(f'work_{dtype} = T.decl_buffer((1,), "{dtype}", data=workspace_data)')
            own = mapped.workspace.nbytes // np.dtype(dtype).itemsize
            first = "T.int64(0)" if choices.is_grid else f'T.Cast("int64", block) * T.int64({own})'
            more = f' + T.Cast("int64", group * {step})' if choices.problems > 1 else ""
            lines.append(f"work_first_{dtype}: T.let[T.int64] = {first}{more}")
        for name, place in sorted(mapped.places.items()):
            if place.is_private:
                buffer = mapped.buffers[name]
                size = buffer.size if place.owner is None else lane_elements(buffer, place.owner, choices.group)
                dtype = element_type(buffer.dtype)
                lines.append(f'{self.names(name, "buffer")} = T.alloc_local(({size},), "{dtype}")')
        lines.append(_constant("stamped", 'T.call_extern("int32", "stamping", ticks_data)'))
        return lines + self._stamp("0")

    def _numbers(self) -> list[tuple[str, str]]:
        """The numbers of a lane, of its group and of its teams."""
        choices = self.mapped.choices
        numbers: list[tuple[str, str]] = []
        if choices.is_grid:
            numbers += [("lane", f"block * {choices.threads} + thread"), ("lanes", f"blocks * {choices.threads}")]
        elif choices.problems > 1 and choices.group > 1:
            numbers.append(("lane", f"T.bitwise_and(thread, {choices.group - 1})"))
            numbers.append(("group", f"T.shift_right(thread, {choices.group.bit_length() - 1})"))
        else:
            numbers.append(("lane", "T.int32(0)" if choices.group == 1 else "thread"))
            numbers += [("group", "thread")] if choices.problems > 1 else []
        shares = [leaf for leaf in all_leaves(self.mapped) if isinstance(leaf, Share)]
        for team in sorted({p.team for p in shares if p.team > 1}):
            numbers.append((f"team_{team}", f"T.shift_right(lane, {team.bit_length() - 1})"))
            numbers.append((f"lane_{team}", f"T.bitwise_and(lane, {team - 1})"))
        return numbers

    def _problems(self, inner: list[str]) -> list[str]:
        """The loop over the problems of a block."""
        choices, program = self.mapped.choices, self.mapped.program
        if choices.is_grid:
            head, lines = "for problem in range(batch):", []
        else:
            count, several = "batch", choices.problems
            if several > 1:  # rounded up, without a number larger than the batch
                count = f"(T.truncdiv(batch, {several}) + T.min(T.truncmod(batch, {several}), 1))"
            rounds = f"T.Select(block < {count}, T.truncdiv({count} - 1 - block, blocks) + 1, 0)"
            head = f"for stride in range({rounds}):"
            if choices.problems == 1:
                lines = [_constant("problem", "block + stride * blocks")]
            else:
                lines = [
                    _constant("first", f"(block + stride * blocks) * {choices.problems}"),
                    "valid: T.let[T.bool] = group < batch - first",
                    _constant("problem", "T.Select(valid, first + group, batch - 1)"),
                ]
        lines += self._stage()
        staging = self.mapped.staging
        for name in (*program.inputs, *program.outputs):
            if self.arguments.ports[name].batched and name not in (*staging.inputs, *staging.outputs):
                size = program.buffers[name].size
                array = self.arguments.array(name)
                lines.append(f'first_{array}: T.let[T.int64] = T.Cast("int64", problem) * T.int64({size})')
        return [head, *deeper([*lines, *inner] or ["pass"])]

    def _stage(self) -> list[str]:
        """The block's problems lie in a row: neighbouring threads bring neighbouring elements of them."""
        staging = self.mapped.staging
        lines = [WAIT_BLOCK] if staging.inputs or staging.outputs else []
        for name in staging.inputs:
            head, line, here, there = self._moved(name)
            lines += [head, *deeper([line, f"{here} = {there}"])]
        return [*lines, WAIT_BLOCK] if staging.inputs else lines

    def _unstage(self) -> list[str]:
        lines = [WAIT_BLOCK] if self.mapped.staging.outputs else []
        for name in self.mapped.staging.outputs:
            head, line, here, there = self._moved(name)
            lines += [head, *deeper([line, f"{there} = {here}"])]
        return lines

    def _moved(self, name: str) -> tuple[str, str, str, str]:
        """A loop over the elements of the block's problems; an element in shared memory, and in the caller's array."""
        choices, mapped = self.mapped.choices, self.mapped
        first, count = "problem", "1"
        if choices.problems > 1:
            first, count = "first", f"T.min({choices.problems}, batch - first)"
        buffer, place = mapped.buffers[name], mapped.places[name if name not in mapped.copied else GIVEN + name]
        dtype, size, threads = element_type(buffer.dtype), buffer.size, choices.block_threads
        turn, head = self.kernel.loop("turn", f"T.truncdiv({count} * {size} - thread + {threads - 1}, {threads})")
        at, line = self.kernel.constant("at", f"thread + {turn} * {threads}")
        group = f"T.truncdiv({at}, {size}) * {mapped.shared.steps[dtype]} + T.truncmod({at}, {size})"
        given = f'T.Cast("int64", {first}) * T.int64({size}) + T.Cast("int64", {at})'
        return head, line, f"shared_{dtype}[{group} + {place.offset}]", f"{self.arguments.array(name)}[{given}]"

    def _step(self, step: MappedStep, dealer: Dealer) -> list[str]:
        """The loop over some iterations."""
        count = f"T.min({step.count}, iterations - {step.first})" if step.first else f"T.min({step.count}, iterations)"
        turn, head = self.kernel.loop(ITERATION, count)
        lines = []
        if step.first:
            turn, line = self.kernel.constant(ITERATION, f"{turn} + {step.first}")
            lines.append(line)
        with self.kernel.reading(**{ITERATION: turn}):
            lines += self._parts(step.parts, dealer)
        return [head, *deeper([*lines, *self._stamp(f"2 + {turn}")])]

    def _stamp(self, slot: str) -> list[str]:
        place = f"block * {self.mapped.program.iterations + 3} + {slot}"
        return ["if stamped != 0:", f'{PAD}ticks[{place}] = T.call_extern("int64", "cycles")']

    def _parts(self, parts: Parts, dealer: Dealer) -> list[str]:
        lines: list[str] = []
        work = WorkPrinter(self.kernel, dealer)
        for part in parts:
            if isinstance(part, Remark):
                lines += comment(part.origins)
            elif isinstance(part, Barrier):
                lines.append(self._barrier())
            elif isinstance(part, InStep):
                count = part.extent if isinstance(part.extent, int) else self.kernel.expressions.text(part.extent)
                turn, head = self.kernel.loop(part.variable, str(count))
                with self.kernel.reading(**{part.variable: turn}):
                    lines += [head, *deeper(self._parts(part.body, dealer) or ["pass"])]
            else:
                lines += work.part(part)
        return lines

    def _barrier(self) -> str:
        choices = self.mapped.choices
        return _WAIT_GRID if choices.is_grid else WAIT_BLOCK if choices.group > WARP else WAIT_WARP


def _constant(name: str, value: str) -> str:
    return f"{name}: T.let[T.int32] = {value}"
