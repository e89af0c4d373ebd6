"""The clock header: what it counts, in C99 without a warning, with one read of the counter for each stamp."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from remote_runners import STRICT
from tools_at_hand import needs_tool

from unfoldc.targets.device import device_source

C = '#include "unfoldc_clock.h"\n'
STAMP = f"{C}unfoldc_clock_stamp stamp(void);\nunfoldc_clock_stamp stamp(void) {{ return unfoldc_clock_now(); }}\n"
START = f"{C}void start(void);\nvoid start(void) {{ unfoldc_clock_start(); }}\n"
_ARM, _RISCV, _AARCH64 = "arm-none-eabi-gcc", "riscv64-unknown-elf-gcc", "aarch64-linux-gnu-gcc"


def compiler_output(folder: Path, command: list[str], text: str) -> str:
    (folder / "unfoldc_clock.h").write_text(device_source("unfoldc_clock.h"))
    (folder / "use.c").write_text(text)
    done = subprocess.run(
        [*command, "-std=c99", "-pedantic", *STRICT, "-O2", "-S", "use.c", "-o", "-"],
        cwd=folder, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


_BARE = "-ffreestanding"
PROCESSORS = [
    ([_ARM, "-mcpu=cortex-m0", "-mthumb"], r"\bldr\t", "cycles", 24),
    ([_ARM, "-mcpu=cortex-m4", "-mthumb"], r"\bldr\t", "cycles", 32),
    ([_ARM, "-mcpu=cortex-m33", "-mthumb"], r"\bldr\t", "cycles", 32),
    ([_RISCV, _BARE, "-march=rv32imc", "-mabi=ilp32"], "csrr .*mcycle", "cycles", 32),
    ([_RISCV, _BARE, "-march=rv64gc", "-mabi=lp64d"], "csrr .*mcycle", "cycles", 64),
    ([_RISCV, _BARE, "-march=rv32imc", "-mabi=ilp32", "-DUNFOLDC_CLOCK_ESP32C3"], "csrr .*0x7E2", "cycles", 32),
    ([_AARCH64], "mrs .*cntvct_el0", "ticks", 64),
    (["gcc"], "clock_gettime", "ns", 64),
]


@pytest.mark.parametrize(
    ("command", "read", "unit", "bits"), [pytest.param(*case, marks=needs_tool(case[0][0])) for case in PROCESSORS]
)
def test_a_stamp_is_one_read_of_the_processors_own_counter(
    command: list[str], read: str, unit: str, bits: int, tmp_path: Path
) -> None:
    facts = f'const char *unit = UNFOLDC_CLOCK_UNIT "!";\nint width[UNFOLDC_CLOCK_BITS == {bits} ? 1 : -1];\n'
    text = compiler_output(tmp_path, command, STAMP + facts)
    code = text[text.index("\nstamp:") : text.index(".size\tstamp")]
    # Arm code loads the counter's address first, from behind the function.
    reads = [line for line in re.findall(f"[^\n]*{read}[^\n]*", code) if ".L" not in line]
    assert len(reads) == 1
    assert f'"{unit}!' in text
    compiler_output(tmp_path, command, START)


@needs_tool("gcc")
@pytest.mark.parametrize(
    ("clock", "from_", "to", "ticks"),
    [
        ("POSIX", 5, 7, 2),
        ("DWT", 0xFFFFFFFE, 3, 5),
        ("SYSTICK", 9, 4, 5),
        ("SYSTICK", 2, 0xFFFFFF, 3),  # it counts down, and goes on at the top
    ],
)
def test_differences_wrap_with_the_counter(clock: str, from_: int, to: int, ticks: int, tmp_path: Path) -> None:
    (tmp_path / "unfoldc_clock.h").write_text(device_source("unfoldc_clock.h"))
    (tmp_path / "use.c").write_text(
        f"{C}int main(void) {{ return unfoldc_clock_ticks({from_}u, {to}u) == {ticks}u ? 0 : 1; }}\n"
    )
    command = ["gcc", "-std=c99", f"-DUNFOLDC_CLOCK_{clock}", "use.c", "-o", "use"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    subprocess.run([tmp_path / "use"], check=True, timeout=60)


@needs_tool("gcc")
def test_seconds_pass_at_the_rate_it_gives(tmp_path: Path) -> None:
    (tmp_path / "unfoldc_clock.h").write_text(device_source("unfoldc_clock.h"))
    (tmp_path / "use.c").write_text(f"""{C}#include <stdio.h>
int main(void) {{
    const struct timespec pause = {{0, 20000000}};
    unfoldc_clock_start();
    const unfoldc_clock_stamp from = unfoldc_clock_now();
    nanosleep(&pause, NULL);
    const unfoldc_clock_stamp to = unfoldc_clock_now();
    printf("%.6f\\n", (double)unfoldc_clock_ticks(from, to) / (double)unfoldc_clock_hz());
    return 0;
}}
""")
    subprocess.run(["gcc", "-std=c99", "use.c", "-o", "use"], cwd=tmp_path, check=True, timeout=60)
    seconds = float(subprocess.run([tmp_path / "use"], capture_output=True, check=True, timeout=60).stdout)
    assert seconds >= 0.02
