from __future__ import annotations

from pathlib import Path

import pytest

from unfoldc.errors import ToolError
from unfoldc.targets import all_targets, find_target
from unfoldc.targets.tools import (
    DEBIAN_PACKAGES,
    debian_command,
    emulator_tools,
    find_tool,
    gnu_tools,
    missing_tools,
    require_tools,
)


@pytest.fixture()
def only_gcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a single program."""
    program = tmp_path / "arm-none-eabi-gcc"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("unfoldc.targets.tools._ADMINISTRATION", "")
    return program


def test_what_is_missing_is_named_with_the_packages_that_bring_it(only_gcc: Path) -> None:
    assert find_tool("arm-none-eabi-gcc") == str(only_gcc)
    assert missing_tools(["arm-none-eabi-gcc", "sshd", "qemu-system-riscv32"]) == ("sshd", "qemu-system-riscv32")
    assert debian_command(["qemu-system-riscv32", "qemu-system-riscv64", "sshd"]) == (
        "apt-get install openssh-server qemu-system-misc"
    )
    assert debian_command(["riscv64-unknown-elf-gcc", "cmake"]) == (  # a compiler without a C library links nothing
        "apt-get install cmake gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf"
    )
    require_tools(["arm-none-eabi-gcc"], "a build")
    with pytest.raises(
        ToolError, match="a second opinion: qemu-system-arm not installed.*`apt-get install qemu-system-arm`"
    ):
        require_tools(["arm-none-eabi-gcc", "qemu-system-arm"], "a second opinion")


def test_each_target_names_programs_whose_package_is_known() -> None:
    for target in all_targets():
        for program in (*emulator_tools(target), *gnu_tools(target)):
            assert program in DEBIAN_PACKAGES, target.name
    assert emulator_tools(find_target("rv64gc")) == ("qemu-system-riscv64",)
    assert emulator_tools(find_target("host")) == gnu_tools(find_target("host")) == ()
    assert gnu_tools(find_target("raspberry-pi-4")) == ("aarch64-linux-gnu-gcc",)
