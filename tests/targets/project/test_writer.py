"""What is written, before anything is built."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels.artifact import Port
from unfoldc.targets import all_targets, find_target
from unfoldc.targets.project import Figures, SelfTest, project_files
from unfoldc.targets.project.places import place_of
from unfoldc.targets.tools import DEBIAN_PACKAGES

DEVICES = [t.name for t in all_targets() if t.core is not None]
FIGURES = Figures(3792, 184, 104, 184, (264, 413), 13, versions={"ziglang": "0.17.1"})
TEST = SelfTest((np.ones(5, np.float32),), (np.full(9, -0.5, np.float32),), (1e-4,), 1e-4)


def written(lista: Any, target: str, figures: Figures = FIGURES, **changes: Any) -> dict[str, str]:
    artifact = replace(lista.artifact(target), **changes)
    return project_files(artifact, find_target(target), TEST, figures, "9.9")


@pytest.mark.parametrize("target", DEVICES)
def test_every_device_has_a_project(lista: Any, target: str) -> None:
    files = written(lista, target)
    linux = target.startswith(("raspberry", "cortex-a"))
    assert ("platform/emulator.ld" in files) is not linux
    core = find_target(target).core
    assert core is not None
    for compiler in ("gcc", "clang"):
        assert all(f.split("+")[0] in files[f"cmake/{compiler}.cmake"] for f in core.gnu_flags if f != "-no-pie")
    assert place_of(core).program in DEBIAN_PACKAGES
    for name, text in files.items():
        assert text.endswith("\n") and not re.search("@[A-Z]", text), name
    presets = json.loads(files["CMakePresets.json"])
    assert [p["name"] for p in presets["testPresets"]] == ["common", "gcc", "clang", "zig"]


def test_the_same_solver_gives_the_same_files(lista: Any) -> None:
    assert written(lista, "stm32f407") == written(lista, "stm32f407")


def test_names_of_a_model_stand_in_comments_and_reduced(lista: Any) -> None:
    hostile = '*/ int main(void){system("rm");} /*\n#error <b>|`x`\x1b[31m' + "y" * 100
    y, x = Port(hostile, "float32", (5,), True), Port(hostile, "float32", (9,), True)
    files = written(lista, "raspberry-pi-4", inputs=(y,), outputs=(x,))
    reduced = re.sub(r"[^A-Za-z0-9_.]", "_", hostile)[:40]
    assert reduced in files["main.c"] and reduced in files["README.md"]
    plain = written(lista, "raspberry-pi-4")
    for name, text in files.items():
        assert "system(" not in text and "#error" not in text and "\x1b" not in text
        assert re.sub(r"/\*.*?\*/", "", text, flags=re.S) == re.sub(r"/\*.*?\*/", "", plain[name], flags=re.S) or (
            name == "README.md"
        )


def test_numbers_read_back_exactly() -> None:
    from unfoldc.targets.project.selftest import data_texts

    values = np.random.default_rng(7).standard_normal((3, 5)).astype(np.float32)
    whole = np.array([-(2**63), 2**63 - 1, 0])
    flags = np.array([True, False])
    odd = np.array([np.nan, -np.inf, 1e-45], np.float32)
    test = SelfTest((values, whole, flags), (odd, np.zeros((0, 2), np.float32)), (0.0, 0.0), 1e-4)
    text = data_texts("s", "9.9", test)["selftest_data.c"]
    found = [float.fromhex(t) for t in re.findall(r"-?0x[01]\.[0-9a-f]+p[-+]\d+(?=f,)", text)]
    np.testing.assert_array_equal(np.array(found, np.float32).reshape(3, 5), values)
    assert "const int64_t s_selftest_input_1[3] = {\n    INT64_MIN, INT64_C(9223372036854775807), INT64_C(0),\n" in text
    assert "const uint8_t s_selftest_input_2[2] = {\n    1, 0,\n" in text
    assert '__builtin_nanf(""), -__builtin_inff(), 1e-45f' in text
    assert "const float s_selftest_expected_1[1] = {\n    0,\n" in text


def test_the_readme_says_the_figures(lista: Any) -> None:
    text = written(lista, "stm32f407")["README.md"]
    for wanted in (
        "| flash | 3792 bytes of 1048576 |",
        "| RAM, the stack not counted | 184 bytes of 131072 |",
        "| at most 104 bytes |",
        "| instructions of an iteration, on the problem of the self-test | 264 to 413 |",
        "| instructions of that solve | 874 (begin 184, end 13) |",
        "by ziglang 0.17.1 |",
        "| other compilers | other sizes and another stack",
        "-DUNFOLDC_RUNNER_STACK_LOW",
        "unfoldc 9.9",
        "apt-get install cmake gcc-arm-none-eabi",
        "apt-get install qemu-system-arm",
        "solver_solve(&state, input_0, output_0);",
    ):
        assert wanted in text, wanted
    unknown = written(lista, "cortex-m55", Figures(1, 2, None, why="QEMU is not installed"))["README.md"]
    assert "| not known |" in unknown and "| not counted: QEMU is not installed |" in unknown
    linux = written(lista, "raspberry-pi-4")["README.md"]  # which has more than any limit of ours
    assert "| code and constants | 3792 bytes |" in linux and "| RAM, the stack not counted | 184 bytes |" in linux
    assert "UNFOLDC_CLOCK_ESP32C3" in written(lista, "esp32-c3")["README.md"]


@pytest.mark.parametrize("target", ["stm32f407", "raspberry-pi-4"])
def test_no_table_of_the_readme_has_an_empty_heading(lista: Any, target: str) -> None:
    lines = written(lista, target)["README.md"].splitlines()
    headings = [above for above, line in zip(lines, lines[1:], strict=False) if line.startswith("|---")]
    assert len(headings) == 4 and not [h for h in headings if re.search(r"\|\s*\|", h)]


def test_a_computer_takes_no_project(lista: Any) -> None:
    with pytest.raises(ValueError, match="host takes no project"):
        written(lista, "host")
