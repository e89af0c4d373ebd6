"""Programs outside Python that some uses of a target take: where they are, which Debian package brings them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from unfoldc.targets.description import Target, not_installed

DEBIAN_PACKAGES = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "clang": "clang",
    "cmake": "cmake",
    "cppcheck": "cppcheck",
    "gcc": "gcc",
    "ninja": "ninja-build",
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-system-arm": "qemu-system-arm",
    "qemu-system-riscv32": "qemu-system-misc",
    "qemu-system-riscv64": "qemu-system-misc",
    "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
}
"""Program -> the Debian packages that bring it and, for a compiler, the C library that it links."""

_ADMINISTRATION = "/usr/local/sbin:/usr/sbin:/sbin"


def find_tool(program: str) -> str | None:
    """The path of a program, those of administrators included; None where it is not installed."""
    return shutil.which(program) or shutil.which(program, path=_ADMINISTRATION)


def missing_tools(programs: Iterable[str]) -> tuple[str, ...]:
    """Those of `programs` that are not installed."""
    return tuple(p for p in programs if find_tool(p) is None)


def debian_command(programs: Iterable[str]) -> str:
    """The command that installs `programs` on Debian and Ubuntu; empty for none."""
    packages = sorted({package for p in programs for package in DEBIAN_PACKAGES.get(p, p).split()})
    return f"apt-get install {' '.join(packages)}" if packages else ""


def require_tools(programs: Iterable[str], purpose: str) -> None:
    """Raise `ToolError`, with the command, where one of `programs` is not installed."""
    missing = missing_tools(programs)
    if missing:
        allowed = "the programs of the distribution's packages"
        raise not_installed(purpose, missing, "", allowed, f"On Debian or Ubuntu, run `{debian_command(missing)}`.")


def emulator_tools(target: Target) -> tuple[str, ...]:
    """The QEMU that runs firmware of `target`; none where QEMU has no machine with such a core."""
    core = target.core
    if core is None or not core.qemu_machine:
        return ()
    if core.architecture == "thumb":
        return ("qemu-system-arm",)
    return (f"qemu-system-riscv{target.spec.word_bits}",)


def gnu_tools(target: Target) -> tuple[str, ...]:
    """The GNU compiler that builds a written-out project of `target`."""
    return () if target.core is None else (f"{target.core.gnu_prefix}gcc",)
