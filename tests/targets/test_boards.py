from __future__ import annotations

import pytest

from unfoldc.errors import TargetError
from unfoldc.targets import all_targets, find_target
from unfoldc.targets.generic import CORTEX_M4

KIB = 1024


def test_every_target_is_found_by_its_name() -> None:
    names = [t.name for t in all_targets()]
    assert names[:4] == ["host", "cuda", "cortex-m0", "cortex-m4"]
    assert len(set(names)) == len(names)
    for t in all_targets():
        assert find_target(t.name) is t


def test_unknown_target_lists_the_names_and_guesses() -> None:
    with pytest.raises(
        TargetError, match="target 'STM32F470'.*no target of this name.*host, cuda, cortex-m0, cortex-m4.*stm32f407"
    ) as e:
        find_target("STM32F470")
    assert e.value.do == "Did you mean 'stm32f407'?"
    with pytest.raises(TargetError, match="Choose one of these names"):
        find_target("zzz\n")


@pytest.mark.parametrize(
    ("name", "flash", "ram", "mhz"),
    [
        ("stm32f407", 1024 * KIB, 128 * KIB, 168),
        ("stm32f411", 512 * KIB, 128 * KIB, 100),
        ("stm32f429", 2048 * KIB, 192 * KIB, 180),
        ("nrf52840", 1024 * KIB, 256 * KIB, 64),
    ],
)
def test_boards_have_the_datasheets_figures(name: str, flash: int, ram: int, mhz: int) -> None:
    t = find_target(name)
    assert (t.spec.flash_bytes, t.spec.ram_bytes, t.clock_hz) == (flash, ram, mhz * 1_000_000)
    assert t.flash is not None and t.ram is not None
    assert (t.flash.length, t.ram.length) == (flash, ram)
    assert t.ram.end == 0x2000_0000 + ram
    assert t.source and t.summary
    assert (t.spec.word_bits, t.spec.vector_bits, t.spec.batch_lanes, t.spec.float_types) == (32, 0, 0, ("float32",))


def test_generic_processor_has_no_limits() -> None:
    assert CORTEX_M4.spec.flash_bytes is None and CORTEX_M4.spec.ram_bytes is None
    assert CORTEX_M4.spec.accumulators == 4
