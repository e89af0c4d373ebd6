from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import unfoldc.targets.description as description
from unfoldc.errors import TargetError, ToolError
from unfoldc.kernels.artifact import Artifact, Port
from unfoldc.targets import find_target
from unfoldc.targets.firmware import PER_ITERATION_NOTE, STACK_RESERVE, build_firmware
from unfoldc.targets.firmware_file import Firmware, read_firmware

WEIGHT_BYTES = 4 * (5 * 9 + 9 * 9 + 1)
STATE_BYTES = 4 * (1 + 3 * 9 + 1)
VECTOR_BYTES = 64


@pytest.fixture(scope="module")
def firmware(lista: Any, tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    return build_firmware(
        lista.artifact("stm32f407"), find_target("stm32f407"), tmp_path_factory.mktemp("fw"), strict=True
    )


def test_flash_holds_code_and_weights_and_ram_state_and_buffers(firmware: Firmware) -> None:
    code = sum(f.size for f in firmware.functions)
    assert 0 <= firmware.flash_bytes - (VECTOR_BYTES + code + WEIGHT_BYTES) < 64
    assert 0 <= firmware.ram_bytes - (STATE_BYTES + 4 * (5 + 9)) < 32


def test_the_image_starts_with_stack_and_reset_vectors(firmware: Firmware) -> None:
    (start, data), *_ = firmware.image
    assert start == 0x0800_0000
    stack, reset = (int.from_bytes(data[i : i + 4], "little") for i in (0, 4))
    assert stack == 0x2000_0000 + 128 * 1024
    assert reset == firmware.symbols["solver_firmware_reset"] and reset & 1


def test_functions_are_located_and_their_frames_known(firmware: Firmware) -> None:
    iterate = next(f for f in firmware.functions if f.name == "solver_iterate")
    assert iterate.frame_bytes is not None and iterate.frame_bytes < 200
    assert firmware.locate(iterate.start + 6) == f"solver_iterate+0x6 ({iterate.start + 6:#010x})"
    assert firmware.locate(0x1000) == "0x00001000, where there is no code"


def test_large_frames_are_read_right(patched_iterate: Callable[[str, str], Artifact], tmp_path: Path) -> None:
    array = "volatile unsigned char b[20000]; b[s->k] = 1; s->next[0] = (float)b[5];"
    built = build_firmware(patched_iterate("cortex-m4", array), find_target("cortex-m4"), tmp_path)
    frame = next(f.frame_bytes for f in built.functions if f.name == "solver_iterate")
    assert frame is not None and 20000 <= frame < 20100


def test_strict_refuses_a_warning_that_others_tolerate(
    patched_iterate: Callable[[str, str], Artifact], tmp_path: Path
) -> None:
    artifact = patched_iterate("cortex-m4", "s->x[0] = 1.0 * s->x[0];")
    build_firmware(artifact, find_target("cortex-m4"), tmp_path)
    with pytest.raises(
        ToolError,
        match=r"building solver.elf for cortex-m4: .*solver.c:\d+:.*-W(implicit-float-conversion|double-promotion)",
    ):
        build_firmware(artifact, find_target("cortex-m4"), tmp_path, strict=True)


def test_flash_and_ram_do_not_grow_with_k(lista: Any, firmware: Firmware, tmp_path: Path) -> None:
    longer = build_firmware(replace(lista, iterations=32).artifact("stm32f407"), find_target("stm32f407"), tmp_path)
    assert abs(longer.flash_bytes - firmware.flash_bytes) <= 0.02 * firmware.flash_bytes
    assert longer.ram_bytes == firmware.ram_bytes


def test_what_is_left_in_the_folder(firmware: Firmware) -> None:
    assert sorted(p.name for p in firmware.elf.parent.iterdir()) == ["solver.elf", "solver.ld", "solver_main.c"]


def test_output_depends_on_the_sources_alone(lista: Any, firmware: Firmware, tmp_path: Path) -> None:
    again = build_firmware(lista.artifact("stm32f407"), find_target("stm32f407"), tmp_path / "elsewhere", strict=True)
    assert again.elf.read_bytes() == firmware.elf.read_bytes()


def test_what_was_built_reads_back(firmware: Firmware) -> None:
    assert read_firmware(firmware.elf, "solver", find_target("stm32f407")) == firmware


def small_board(flash: int, ram: int) -> Any:
    base = find_target("stm32f407")
    assert base.flash is not None and base.ram is not None
    return replace(
        base,
        spec=replace(base.spec, name="tiny", flash_bytes=flash, ram_bytes=ram),
        flash=replace(base.flash, length=flash),
        ram=replace(base.ram, length=ram),
    )


def test_a_model_too_big_for_flash_is_refused_with_what_would_fit(
    lista: Any, firmware: Firmware, tmp_path: Path
) -> None:
    artifact = lista.artifact("stm32f407")
    with pytest.raises(TargetError, match="solver with K = 4 on tiny") as e:
        build_firmware(artifact, small_board(2048, 4096), tmp_path)
    need, ram = firmware.flash_bytes, firmware.ram_bytes + STACK_RESERVE
    assert e.value.found == (
        f"it needs {need} bytes of flash and {ram} bytes of RAM (1024 of them for the stack), "
        f"which is {need - 2048} bytes of flash too much"
    )
    assert e.value.allowed == "2048 bytes of flash and 4096 bytes of RAM"
    assert "a smaller K" in e.value.do and "stm32f407 or stm32f411 or stm32f429 or nrf52840" in e.value.do
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bytes_per_iteration", "advice"),
    [(700, "K = 2;"), (100, "tied weights;"), (0, "What would fit: a smaller problem;")],
)
def test_a_smaller_k_is_named_where_its_cost_is_known(
    lista: Any, firmware: Firmware, tmp_path: Path, bytes_per_iteration: int, advice: str
) -> None:
    artifact = replace(lista.artifact("stm32f407"), notes={PER_ITERATION_NOTE: bytes_per_iteration})
    board = small_board(firmware.flash_bytes // 8 * 8 - 1400 + 8, 4096)
    with pytest.raises(TargetError) as e:
        build_firmware(artifact, board, tmp_path)
    assert advice in e.value.do


def test_a_model_too_big_for_ram_and_for_all_boards_is_refused(lista: Any, tmp_path: Path) -> None:
    artifact = lista.artifact("nrf52840", extra__c="float big[1 << 27];\n", solver__h=header_with_big(lista))
    with pytest.raises(TargetError, match="bytes of RAM too much") as e:
        build_firmware(artifact, find_target("nrf52840"), tmp_path)
    assert "RAM does not depend on K" in e.value.do and "not in the list" in e.value.do


def header_with_big(lista: Any) -> str:
    """The header with a state of 512 MiB."""
    header: str = lista.artifact("host").sources["solver.h"]
    return header.replace("int32_t k; }", "int32_t k; float big[1 << 27]; }")


def test_ram_must_leave_room_for_the_stack(lista: Any, firmware: Firmware, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=f"which is {STACK_RESERVE - 8} bytes of RAM too much"):
        build_firmware(lista.artifact("stm32f407"), small_board(1 << 20, firmware.ram_bytes + 8), tmp_path)


def test_functions_that_bare_metal_lacks_are_named(
    patched_iterate: Callable[[str, str], Artifact], with_sources: Callable[..., Artifact], tmp_path: Path
) -> None:
    artifact = patched_iterate("cortex-m4", "float tanhf(float); s->x[0] = tanhf(s->x[0]);")
    with pytest.raises(TargetError, match="solver on cortex-m4: the solver calls tanhf, which .* does not have"):
        build_firmware(artifact, find_target("cortex-m4"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_square_roots_are_one_instruction(patched_iterate: Callable[[str, str], Artifact], tmp_path: Path) -> None:
    artifact = patched_iterate("cortex-m4", "float sqrtf(float); s->x[0] = sqrtf(s->x[0]);")
    built = build_firmware(artifact, find_target("cortex-m4"), tmp_path)
    assert "sqrtf" not in built.symbols


def test_double_precision_is_refused_before_compiling(lista: Any, tmp_path: Path) -> None:
    artifact = replace(lista.artifact("cortex-m4"), inputs=(Port("y", "float64", (5,), True),))
    with pytest.raises(TargetError, match="input 'y': its elements are float64; allowed: float32, bool, int8"):
        build_firmware(artifact, find_target("cortex-m4"), tmp_path)


def test_an_artifact_without_a_c_interface_is_refused(lista: Any, tmp_path: Path) -> None:
    artifact = replace(lista.artifact("cortex-m4"), sources={"solver.py": ""}, backend="numba")
    with pytest.raises(TargetError, match="firmware for cortex-m4: the back end 'numba' made no C interface solver.h"):
        build_firmware(artifact, find_target("cortex-m4"), tmp_path)


def test_the_host_takes_no_firmware(lista: Any, tmp_path: Path) -> None:
    with pytest.raises(
        TargetError, match="firmware for host: this target runs a shared library.*cortex-m4, .*stm32f407"
    ):
        build_firmware(lista.artifact("host"), find_target("host"), tmp_path)


def test_broken_sources_end_in_the_compilers_first_error(lista: Any, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="building solver.elf for cortex-m4: .*solver.c:1:.*error"):
        build_firmware(lista.artifact("cortex-m4", solver__c="int ;;; 3\n"), find_target("cortex-m4"), tmp_path)


def test_damaged_and_foreign_files_are_refused(firmware: Firmware, tmp_path: Path) -> None:
    target = find_target("stm32f407")
    data = firmware.elf.read_bytes()
    for name, content in {"empty": b"", "text": b"no ELF", "half": data[: len(data) // 2], "head": data[:60]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TargetError, match=f"firmware {name}: it is not a whole ELF file"):
            read_firmware(tmp_path / name, "solver", target)
    with pytest.raises(TargetError, match="it cannot be read"):
        read_firmware(tmp_path / "absent", "solver", target)
    with pytest.raises(TargetError, match="it has no other_firmware_begin"):
        read_firmware(firmware.elf, "other", target)
    with pytest.raises(TargetError, match="linked for other addresses than those of nrf52840"):
        read_firmware(firmware.elf, "solver", find_target("nrf52840"))
    with pytest.raises(TargetError, match="host takes no firmware"):
        read_firmware(firmware.elf, "solver", find_target("host"))


def test_a_missing_elf_reader_is_named(firmware: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "find_spec", lambda name: None if name == "elftools" else object())
    with pytest.raises(ToolError, match="pyelftools not installed.*pip install pyelftools"):
        read_firmware(firmware.elf, "solver", find_target("stm32f407"))
