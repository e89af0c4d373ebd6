"""Tools from Debian that a test takes: it skips where one is not installed, but fails under continuous integration."""

from __future__ import annotations

import os
import shutil

import pytest

# Program -> the Debian package that brings it.
PACKAGES = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi",
    "clang": "clang",
    "cmake": "cmake",
    "cppcheck": "cppcheck",
    "gcc": "gcc",
    "ninja": "ninja-build",
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-system-arm": "qemu-system-arm",
    "qemu-system-riscv32": "qemu-system-misc",
    "qemu-system-riscv64": "qemu-system-misc",
    "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf",
    "sshd": "openssh-server",
}


def needs_tool(*programs: str) -> pytest.MarkDecorator:
    """A mark for a test that runs these programs."""
    missing = [p for p in programs if find_tool(p) is None]
    packages = " ".join(sorted({PACKAGES[p] for p in missing}))
    reason = f"{', '.join(missing)} not installed: apt-get install {packages}"
    return pytest.mark.skipif(bool(missing) and not os.environ.get("UNFOLDC_CI"), reason=reason)


def find_tool(program: str) -> str | None:
    """The path of a program; administrators' programs are found too."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/sbin")
