"""What a target is: the compiler's view of the device, its memories, how to build for it, which packages that takes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from unfoldc.errors import ToolError
from unfoldc.kernels.target_spec import TargetSpec

_MODULES = {"apache-tvm": "tvm", "unfoldc[cuda]": "numba_cuda", "pyelftools": "elftools"}


@dataclass(frozen=True)
class MemoryRegion:
    """`length` bytes from address `start`."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """The first address behind the region."""
        return self.start + self.length


@dataclass(frozen=True)
class Core:
    """A processor, as the tools that build and emulate know it.

    `flags` select it in `zig cc`, `gnu_flags` in the GNU compiler whose tools' names begin with `gnu_prefix`, `tvm` are
    the keys of TVM's LLVM target. `emulator` runs its firmware where nothing else is asked for: `unicorn_model` is
    unicorn's name of the processor ("": it has none), `qemu_machine` QEMU's machine with one ("": none). `clock` is the
    counter that a time stamp reads. `linux` is zig's target for a program under Linux ("": it runs without a system).
    `timing` names the table of cycles ("": none is known). `runtime_model` is the code model in which the compiler's
    run-time library has to be built ("": the one that it comes with will do).
    """

    name: str
    architecture: Literal["thumb", "riscv", "aarch64"]
    flags: tuple[str, ...]
    gnu_prefix: str
    gnu_flags: tuple[str, ...]
    tvm: Mapping[str, Any]
    emulator: Literal["unicorn", "qemu"]
    clock: Literal["dwt", "systick", "mcycle", "cntvct"]
    unicorn_model: str = ""
    qemu_machine: str = ""
    linux: str = ""
    timing: str = ""
    runtime_model: str = ""
    hard_float: bool = True


@dataclass(frozen=True)
class Power:
    """What a device draws while it computes: `amperes` at `volts` at its clock, and the document that says so."""

    volts: float
    amperes: float
    source: str


@dataclass(frozen=True)
class Target:
    """A device to compile for: the running computer, or a core with memories, of a board or of none in particular.

    `kind` is "host" (the running computer), "gpu" (one in it) or "emulated" (firmware that runs in the emulator: counts
    are exact, times unknown). `flags` select the processor in the C compiler. `flash` and `ram` are where the linker
    puts things; the limits that hold are `spec.flash_bytes` and `spec.ram_bytes` (None: no device in particular, so no
    limit). `source` says where the figures come from and how memory is counted; `packages` are the PyPI distributions
    that building and running take.
    """

    spec: TargetSpec
    kind: Literal["host", "gpu", "emulated"]
    summary: str
    source: str
    packages: tuple[str, ...]
    flags: tuple[str, ...]
    core: Core | None = None
    flash: MemoryRegion | None = None
    ram: MemoryRegion | None = None
    clock_hz: int | None = None
    power: Power | None = None

    @property
    def name(self) -> str:
        """The name that `find_target` takes."""
        return self.spec.name

    @property
    def has_system(self) -> bool:
        """Whether programs run there under an operating system, from a file: there is no flash, and RAM is shared."""
        return self.core is not None and bool(self.core.linux)

    def missing(self) -> tuple[str, ...]:
        """The packages of this target that are not installed."""
        return missing_packages(self.packages)

    def install_command(self) -> str:
        """The pip command that installs what is missing; empty when nothing is."""
        return install_command(self.missing())


def missing_packages(packages: Iterable[str]) -> tuple[str, ...]:
    """Those of `packages` that are not installed; looks for them without importing them."""
    return tuple(p for p in packages if find_spec(_MODULES.get(p, p)) is None)


def install_command(packages: Iterable[str]) -> str:
    """The pip command that installs `packages`; empty for none."""
    names = " ".join(map(shlex.quote, packages))
    return f"python -m pip install {names}" if names else ""


def require_packages(packages: Iterable[str], purpose: str) -> None:
    """Raise `ToolError`, with the pip command, when one of `packages` is not installed."""
    missing = missing_packages(packages)
    if missing:
        allowed = "the tools come from PyPI and need no administrator rights"
        raise not_installed(purpose, missing, " in this Python", allowed, f"Run `{install_command(missing)}`.")


def not_installed(purpose: str, missing: Iterable[str], where: str, allowed: str, do: str) -> ToolError:
    """The error for what `purpose` takes and is not there."""
    return ToolError(purpose, f"{' and '.join(missing)} not installed{where}", allowed, do)
