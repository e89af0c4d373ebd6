"""One emulated processor with a firmware loaded and started; calls functions of the firmware that take no arguments."""

from __future__ import annotations

import importlib
import threading
import time
import weakref
from typing import Any

import numpy as np

from unfoldc.errors import TargetError
from unfoldc.targets.description import Target, require_packages
from unfoldc.targets.firmware_file import Firmware
from unfoldc.targets.processors import emulated
from unfoldc.targets.trace import Trace

_PAGE = 4096
_STACK_WINDOW = 1 << 20  # bytes of stack watched at most, on targets without a RAM limit
_PAINT = 0xA5
_FAULTS = {
    "UC_ERR_READ_UNMAPPED": "reads memory that is not there",
    "UC_ERR_WRITE_UNMAPPED": "writes memory that is not there",
    "UC_ERR_FETCH_UNMAPPED": "jumps to memory that is not there",
    "UC_ERR_WRITE_PROT": "writes to flash",
    "UC_ERR_INSN_INVALID": "meets an undefined instruction",
    "UC_ERR_EXCEPTION": "raises an exception",
}


class Machine:
    """The emulated processor after start-up; RAM persists from call to call.

    With `counting`, `trace` sees every instruction executed, and a call that executes more than `instruction_limit`
    ends in `TargetError`. Without, nothing is hooked into the run and only `time_limit` (s, of real time) ends an
    endless loop. A fault ends in `TargetError` that names function and address.
    """

    def __init__(
        self, firmware: Firmware, target: Target, *, counting: bool, instruction_limit: int, time_limit: float
    ) -> None:
        require_packages(["unicorn"], f"running a firmware for {target.name}")
        if target.core is None or target.flash is None or target.ram is None:
            raise ValueError(f"{target.name} takes no firmware")
        self._processor = emulated(target.core, target.spec.word_bits)
        self._unicorn: Any = importlib.import_module("unicorn")
        self._names: Any = importlib.import_module(self._processor.constants)
        self.firmware = firmware
        self.target = target
        self._instruction_limit = instruction_limit
        self._stop_count = 0
        self._time_limit = time_limit
        self._deadline = float("inf")
        self._bad_address: int | None = None
        self.trace = Trace(self._processor, self.read)
        u = self._unicorn
        modes = sum(getattr(u, name) for name in self._processor.modes)
        self._uc = u.Uc(getattr(u, self._processor.architecture), modes)
        self._uc.ctl_set_cpu_model(getattr(self._names, target.core.unicorn_model))
        for name, value in self._processor.registers:
            self._write_register(name, value)
        image_end = max(at + len(data) for at, data in firmware.image)
        self._uc.mem_map(target.flash.start, _pages(image_end - target.flash.start), u.UC_PROT_READ | u.UC_PROT_EXEC)
        self._uc.mem_map(target.ram.start, _pages(target.ram.length))
        for device in self._processor.devices:
            self._uc.mem_map(device.start, device.length)
        for address, data in firmware.image:
            self._uc.mem_write(address, data)
        # Hooks must be there before the first run: code translated without them is never hooked.
        self._uc.hook_add(u.UC_HOOK_MEM_INVALID, self._on_bad_memory)
        if counting:
            self._uc.hook_add(u.UC_HOOK_BLOCK, self._on_block)
        else:
            # unicorn's own time limit polls from a thread of its own and slows a run of some ms by a quarter.
            interval = min(1.0, time_limit / 10)
            threading.Thread(target=_watch, args=(weakref.ref(self), interval), daemon=True).start()
        stack_bottom = target.ram.start + firmware.ram_bytes
        self._stack_top = firmware.symbols["firmware_stack_top"]
        self._stack_bottom = max(stack_bottom, self._stack_top - _STACK_WINDOW)
        # RAM holds anything after power-on; the start-up code has to cope.
        self._uc.mem_write(target.ram.start, bytes([_PAINT]) * firmware.ram_bytes)
        self.paint_stack()
        self._run("reset", firmware.symbols[f"{firmware.symbol}_firmware_reset"])

    @property
    def instructions(self) -> int:
        """Executed so far, where they are counted; one whose condition fails spends its slot and counts, too."""
        return self.trace.instructions

    def call(self, entry: str) -> None:
        """Run `<symbol>_firmware_<entry>` to its end."""
        self._run(entry, self.firmware.symbols[f"{self.firmware.symbol}_firmware_{entry}"])

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes of memory."""
        return bytes(self._uc.mem_read(address, size))

    def write(self, address: int, data: bytes) -> None:
        """Write memory."""
        self._uc.mem_write(address, data)

    def paint_stack(self) -> None:
        """Fill the free RAM below the stack's top with a pattern, to see later how far the stack came."""
        self._uc.mem_write(self._stack_bottom, bytes([_PAINT]) * (self._stack_top - self._stack_bottom))

    def stack_bytes(self) -> int:
        """The most stack in use since `paint_stack`, bytes."""
        window = np.frombuffer(self.read(self._stack_bottom, self._stack_top - self._stack_bottom), np.uint8)
        touched = np.flatnonzero(window != _PAINT)
        return window.size - int(touched[0]) if touched.size else 0

    def _run(self, entry: str, start: int) -> None:
        u, bit = self._unicorn, self._processor.code_bit
        stop = self.firmware.symbols["main"] & ~bit  # never runs: where calls return to
        self._write_register(self._processor.sp, self._stack_top)
        self._write_register(self._processor.link, stop | bit)
        self._bad_address = None
        self._stop_count = self.instructions + self._instruction_limit
        self._deadline = time.monotonic() + self._time_limit
        try:
            self._uc.emu_start(start | bit, stop)
        except u.UcError as e:
            raise self._fault(e) from e
        finally:
            self._deadline = float("inf")
        at = self._read_register(self._processor.pc)
        if at != stop:
            counted = self.instructions > self._stop_count
            limit = f"{self._instruction_limit} instructions" if counted else f"{self._time_limit:.0f} s"
            raise self._failure(
                f"'{entry}' had not finished after {limit}, it was in {self.firmware.locate(at)}",
                f"at most {limit}",
                "Raise the limit if the problem is this large; else the program does not end.",
            )
        # The lowest bytes of the free RAM are the first that a stack too deep would overwrite.
        if self.read(self._stack_bottom, 8) != bytes([_PAINT]) * 8:
            room = self._stack_top - self._stack_bottom
            raise self._failure(
                f"the stack of '{entry}' took all of the {room} bytes left for it and may have overwritten data",
                f"less than {room} bytes of stack",
                "Choose a device with more RAM or a smaller problem.",
            )

    def stop_if_late(self) -> None:
        """End the running call if it is past its time limit."""
        if time.monotonic() > self._deadline:
            self._uc.emu_stop()

    def _read_register(self, name: str) -> int:
        return int(self._uc.reg_read(getattr(self._names, name)))

    def _write_register(self, name: str, value: int) -> None:
        self._uc.reg_write(getattr(self._names, name), value)

    def _on_bad_memory(self, uc: Any, access: int, address: int, size: int, value: int, data: Any) -> bool:
        self._bad_address = address
        return False

    def _on_block(self, uc: Any, address: int, size: int, data: Any) -> None:
        self.trace.enter(address, size)
        if self.instructions > self._stop_count:
            uc.emu_stop()

    def _fault(self, error: Any) -> TargetError:
        n = self.firmware
        codes = {getattr(self._unicorn, name): text for name, text in _FAULTS.items()}
        at = n.locate(self._read_register(self._processor.pc))
        if at.endswith("no code"):
            back = self._read_register(self._processor.link) & ~self._processor.code_bit
            at += f", last called from {n.locate(back - 2)}"
        what = codes.get(error.errno, f"stops ({error})")
        address = "" if self._bad_address is None else f", address {self._bad_address:#010x},"
        return self._failure(
            f"the program {what}{address} in {at}",
            "code and constants in flash, data and stack in RAM",
            "Generated code should never do this: please report it with the model.",
        )

    def _failure(self, found: str, allowed: str, do: str) -> TargetError:
        return TargetError(f"{self.firmware.symbol} on the emulated {self.target.name}", found, allowed, do)


def _watch(reference: weakref.ref[Machine], interval: float) -> None:
    """Look after a machine every `interval` s for as long as anybody uses it."""
    while True:
        time.sleep(interval)
        machine = reference()
        if machine is None:
            return
        machine.stop_if_late()
        del machine


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
