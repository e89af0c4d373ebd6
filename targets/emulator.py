"""Solve problems on an emulated device and count what the solver takes: instructions per iteration, stack."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from unfoldc.errors import InputError
from unfoldc.kernels.artifact import Artifact, Port
from unfoldc.targets.description import Target
from unfoldc.targets.firmware_file import Firmware
from unfoldc.targets.instructions import Mix
from unfoldc.targets.machine import Machine
from unfoldc.targets.timing import find_timing


@dataclass(frozen=True)
class Counts:
    """Instructions executed by each part for one problem, the call included, and the deepest stack in bytes.

    `mixes` are they by class and `cycles` what they take, estimated by the target's table of timings (None: it has
    none), both of begin, each iteration and end in this order; `solve` are the instructions of a call that does all of
    it. Not every emulator tells, so comparisons leave these out.
    """

    begin: int
    iterate: tuple[int, ...]
    end: int
    stack_bytes: int
    mixes: tuple[Mix, ...] = field(default=(), compare=False)
    cycles: tuple[int, ...] | None = field(default=None, compare=False)
    solve: int | None = field(default=None, compare=False)

    @property
    def total(self) -> int:
        """Instructions of one solve, part by part."""
        return self.begin + sum(self.iterate) + self.end


class Emulator:
    """The firmware of `artifact` on an emulated `target`. Several threads may call it; they take turns.

    `solve` runs bare, `count` on a second processor that counts. Faults, endless loops (`time_limit` in s of real time
    for `solve`, `instruction_limit` per part for `count`) and a stack that does not fit end in `TargetError`.
    """

    def __init__(
        self,
        firmware: Firmware,
        artifact: Artifact,
        target: Target,
        *,
        instruction_limit: int = 1_000_000_000,
        time_limit: float = 120.0,
    ) -> None:
        self.firmware = firmware
        self.artifact = artifact
        self.target = target
        self._instruction_limit = instruction_limit
        self._time_limit = time_limit
        self._lock = threading.Lock()
        self._machine = self._start(counting=False)

    def solve(self, inputs: Sequence[np.ndarray], iterations: int | None = None) -> list[np.ndarray]:
        """The outputs for one problem, each of its port's shape, after `iterations` of the K iterations (None: all)."""
        total = self.artifact.iterations
        k = total if iterations is None else iterations
        if not 0 <= k <= total:
            raise InputError("iterations", f"{k}", f"0 to {total}", "Ask for at most what the model was trained for.")
        data = self._bytes(inputs)
        with self._lock:
            self._write_inputs(self._machine, data)
            if k == total:
                self._machine.call("solve")
            else:
                self._machine.write(self._address("iterations"), k.to_bytes(4, "little"))
                self._machine.call("run")
            return [self._read_output(i, port) for i, port in enumerate(self.artifact.outputs)]

    def count(self, inputs: Sequence[np.ndarray] | None = None) -> Counts:
        """Instructions of each part and stack of one solve (None: of inputs that are all 1)."""
        if inputs is None:
            inputs = [np.ones(p.shape, p.dtype) for p in self.artifact.inputs]
        data = self._bytes(inputs)
        with self._lock:
            machine = self._start(counting=True)
            self._write_inputs(machine, data)
            machine.paint_stack()

            mixes = []
            for entry in ("begin", *["iterate"] * self.artifact.iterations, "end"):
                machine.trace.take()
                machine.call(entry)
                mixes.append(machine.trace.take())
            machine.trace.take()
            machine.call("solve")  # calls the parts, so its stack is the deepest
            solve = machine.trace.take().instructions
            begin, *iterate, end = (mix.instructions for mix in mixes)
            timing = find_timing(self.target)
            cycles = None if timing is None else tuple(timing.cycles(mix) for mix in mixes)
            return Counts(begin, tuple(iterate), end, machine.stack_bytes(), tuple(mixes), cycles, solve)

    def _start(self, *, counting: bool) -> Machine:
        return Machine(
            self.firmware,
            self.target,
            counting=counting,
            instruction_limit=self._instruction_limit,
            time_limit=self._time_limit,
        )

    def _address(self, name: str) -> int:
        return self.firmware.symbols[f"{self.artifact.symbol}_firmware_{name}"]

    def _bytes(self, inputs: Sequence[np.ndarray]) -> list[bytes]:
        ports = self.artifact.inputs
        if len(inputs) != len(ports):
            names = ", ".join(p.name for p in ports)
            raise InputError("inputs", f"{len(inputs)} arrays", f"{len(ports)} ({names})", "Pass one array per input.")
        for array, port in zip(inputs, ports, strict=True):
            if array.shape != port.shape or array.dtype != np.dtype(port.dtype):
                raise InputError(
                    where=f"input '{port.name}'",
                    found=f"{array.dtype} of shape {array.shape}",
                    allowed=f"{port.dtype} of shape {port.shape}",
                    do="Pass one problem, converted to this type.",
                )
        return [np.ascontiguousarray(a).tobytes() for a in inputs]

    def _write_inputs(self, machine: Machine, data: Sequence[bytes]) -> None:
        for i, bytes_ in enumerate(data):
            machine.write(self._address(f"input_{i}"), bytes_)

    def _read_output(self, index: int, port: Port) -> np.ndarray:
        dtype = np.dtype(port.dtype)
        data = self._machine.read(self._address(f"output_{index}"), port.size * dtype.itemsize)
        return np.frombuffer(data, dtype).reshape(port.shape).copy()
