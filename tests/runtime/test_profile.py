"""What a profile holds; no figure here depends on how fast the machine is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unfoldc.errors import InputError
from unfoldc.runtime import measure
from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.backends import open_engine
from unfoldc.runtime.convergence import errors_by_iteration
from unfoldc.runtime.load import open_build
from unfoldc.runtime.profile import Profile, duration
from unfoldc.runtime.solver import Solver

K = 4


def test_a_row_per_iteration_that_add_up_to_the_whole(solver: Solver, lista: Any) -> None:
    profile = solver.profile({"y": lista.problems(20)}, repeats=30)
    assert [row.k for row in profile.iterations] == [1, 2, 3, 4]
    rows = [profile.begin, *profile.iterations, profile.end]
    assert all(row.seconds_p50 is not None and row.seconds_p99 is not None for row in rows)
    assert all(0 < (row.seconds_p50 or 0) <= (row.seconds_p99 or 0) for row in rows)
    assert profile.seconds_p50 is not None and profile.seconds_p99 is not None
    assert profile.dispatch_seconds is not None and profile.seconds_p50 <= profile.seconds_p99
    assert profile.stamp_seconds is not None and profile.stamp_overhead is not None
    assert (profile.repeats, profile.batch, profile.target, profile.backend) == (30, 20, "host", "c")
    assert profile.instructions is None and profile.flash_bytes is None and profile.stack_bytes is None


def test_the_arithmetic_of_a_timing() -> None:
    """Whole call 1000 ns, of which 200 on the way; stamps make it 1100. Ticks 1 : 3 : 6 share out 800 ns."""
    ns = np.full(5, 1)
    timing = measure._Timing(
        1000 * ns, 200 * ns, 1150 * ns, 250 * ns, np.tile(np.array([10, 30, 60], np.uint64), (5, 1))
    )
    assert timing.program == pytest.approx(800e-9) and timing.dispatch == pytest.approx(200e-9)
    assert timing.stamps == pytest.approx(100e-9)
    assert [row.seconds_p50 for row in timing.parts()] == pytest.approx([80e-9, 240e-9, 480e-9])


def test_the_error_is_that_of_the_answer_after_k_iterations(solver: Solver, lista: Any) -> None:
    y = lista.problems(6)
    truth = lista.solve(y, 100)
    profile = solver.profile({"y": y}, repeats=1, truth=truth)
    for row in profile.iterations:
        expected = np.linalg.norm(lista.solve(y, row.k) - truth) / np.linalg.norm(truth)
        assert row.error == pytest.approx(expected, rel=1e-4)
    assert profile.error_of == "of x, relative to the truth that was given"
    named = solver.profile({"y": y}, repeats=1, truth={"x": truth})
    assert [row.error for row in named.iterations] == [row.error for row in profile.iterations]


def test_without_a_truth_the_error_is_against_the_last_answer(solver: Solver, lista: Any) -> None:
    y = lista.problems(6)
    profile = solver.profile({"y": y}, repeats=1)
    final = lista.solve(y)
    for row in profile.iterations[:-1]:
        expected = np.linalg.norm(lista.solve(y, row.k) - final) / np.linalg.norm(final)
        assert row.error == pytest.approx(expected, rel=1e-4)
    assert profile.iterations[-1].error == 0
    assert profile.error_of == "of x, relative to the solver's own answer after 4 iterations"


def test_an_error_says_that_it_is_of_the_first_problem_alone(lista_build: Build, lista: Any) -> None:
    engine, y = open_engine(lista_build), [lista.problems(6)]
    _, error_of = errors_by_iteration(lista_build.artifact, engine, y, 6, None, first_only=True)
    assert error_of.endswith("after 4 iterations, for the first of 6 problems")
    _, error_of = errors_by_iteration(lista_build.artifact, engine, [y[0][:1]], 1, None, first_only=True)
    assert error_of.endswith("after 4 iterations")


def test_errors_that_cannot_be_given_are_none(solver: Solver, lista: Any, lista_build: Build) -> None:
    zero = solver.profile({"y": np.zeros((1, 5), np.float32)}, repeats=1)
    assert [row.error for row in zero.iterations] == [None] * K and "zero or not finite" in zero.error_of
    nan = solver.profile({"y": np.full((1, 5), np.nan, np.float32)}, repeats=1, truth=np.ones((1, 9)))
    assert [row.error for row in nan.iterations] == [None] * K
    assert nan.error_of == "of x, relative to the truth that was given; none where the answer is not finite"
    assert str(zero).endswith(
        "\nerror: of x, relative to the solver's own answer after 4 iterations, which is zero or not "
        "finite: no error can be given"
    )
    json.loads(nan.to_json())
    artifact = replace(lista_build.artifact, early_stop="a reason")
    stiff = open_build(replace(lista_build, artifact=artifact)).profile({"y": lista.problems(1)}, repeats=1)
    assert [row.error for row in stiff.iterations] == [None, None, None, 0.0] and "a reason" in stiff.error_of


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats: 0; allowed: 1 or more."),
        ({"truth": np.zeros((2, 9))}, "truth: shape (2, 9); allowed: shape (1, 9). Pass the right x"),
        ({"truth": "no"}, "truth: no array of numbers"),
        ({"truth": {"z": np.zeros(9)}}, "truth: z; allowed: one of x. Give the right answer of one output."),
        ({"truth": {}}, "truth: nothing; allowed: one of x."),
    ],
)
def test_what_cannot_be_measured_is_refused(solver: Solver, lista: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        solver.profile({"y": lista.problems(1)}, **options)
    assert message in str(error.value)


def test_an_empty_batch_is_refused(solver: Solver) -> None:
    with pytest.raises(InputError, match=r"batch: 0; allowed: 1 or more"):
        solver.profile({"y": np.zeros((0, 5))})


def test_the_time_limit_ends_the_repetitions(solver: Solver, lista: Any) -> None:
    assert solver.profile({"y": lista.problems(1)}, repeats=1000, seconds=0.0).repeats == 1


def test_json_and_text(solver: Solver, lista: Any) -> None:
    profile = solver.profile({"y": lista.problems(1)}, repeats=3)
    data = json.loads(profile.to_json())
    assert data == profile.to_dict() and len(data["iterations"]) == K
    assert {"k", "seconds_p50", "seconds_p99", "instructions", "error"} <= set(data["iterations"][0])
    lines = str(profile).splitlines()
    assert lines[0] == "4 iterations on host, backend c, batch 1, 3 repetitions"
    assert [line.split()[0] for line in lines[1:8]] == ["iteration", "begin", "1", "2", "3", "4", "end"]
    assert "a stamp costs" in str(profile) and "instructions" not in lines[1] and "error: of x" in lines[-1]


class _Device:
    """An engine that counts."""

    flash_bytes, ram_bytes, stack_bound_bytes = 4096, 512, 120

    def solve(self, inputs: Any, outputs: Any, batch: int, iterations: int) -> None:
        outputs[0][...] = iterations

    def count(self, inputs: Any) -> Any:
        from unfoldc.targets.emulator import Counts

        return Counts(10, (20, 21, 22, 23), 5, 100)


def test_an_emulated_device_counts_and_does_not_time(lista_build: Build, lista: Any) -> None:
    build = replace(lista_build, kind="emulated", target="cortex-m4")
    profile: Profile = Solver(build, _Device()).profile({"y": lista.problems(3)})  # type: ignore[arg-type]
    assert [row.instructions for row in profile.iterations] == [20, 21, 22, 23]
    assert (profile.instructions, profile.begin.instructions, profile.end.instructions) == (101, 10, 5)
    assert (profile.flash_bytes, profile.ram_bytes, profile.stack_bytes) == (4096, 512, 100)
    assert profile.seconds_p50 is None and all(row.seconds_p50 is None for row in profile.iterations)
    assert [row.error for row in profile.iterations] == [0.75, 0.5, 0.25, 0.0]
    text = str(profile)
    assert (
        "one problem, emulated" in text
        and "flash 4096 bytes, RAM 512 bytes, stack 100 bytes (measured; never more than 120)" in text
    )
    assert "time" not in text.splitlines()[1]


class _Estimated(_Device):
    """One whose cycles are estimated, on a board with a clock and a current."""

    def count(self, inputs: Any) -> Any:
        return replace(super().count(inputs), cycles=(20, 40, 42, 44, 46, 10))


def test_cycles_and_energy_are_labelled_as_estimates_with_their_sources(lista_build: Build, lista: Any) -> None:
    build = replace(lista_build, kind="emulated", target="nrf52840")
    profile = Solver(build, _Estimated()).profile({"y": lista.problems(1)})  # type: ignore[arg-type]
    assert [row.cycles for row in profile.iterations] == [40, 42, 44, 46] and profile.cycles == 202
    joules = 202 / 64e6 * 3.0 * 3.3e-3  # cycles / Hz * V * A
    assert profile.energy_joules == pytest.approx(joules)
    assert sum(r.energy_joules or 0 for r in (profile.begin, *profile.iterations, profile.end)) == pytest.approx(joules)
    lines = str(profile).splitlines()
    assert "cycles (est.)" in lines[1] and "time (est.)" in lines[1] and "µJ (est.)" in lines[1]
    assert lines[4].split()[2:5] == ["42", "656", "ns"] and lines[8].split()[-4:] == ["202", "3.16", "us", "0.0312"]
    assert "flash 4096 of 1048576 bytes, RAM 512 of 262144 bytes" in str(profile)
    assert f"fits: {262144 - 512 - 120} bytes of RAM are left" in lines
    assert lines[11:14] == [
        "cycles (est.): from instructions by Arm's tables for the Cortex-M4 (DDI 0439); no waiting for memory or "
        "results",
        "time (est.): cycles at 64 MHz",
        "µJ (est.): time at 3 V and 3.3 mA (Nordic nRF52840 Product Specification: CoreMark from flash at 64 MHz with "
        "DC/DC regulator)",
    ]
    data = json.loads(profile.to_json())
    assert data["cycles"] == 202 and data["iterations"][0]["cycles"] == 40 and "Arm" in data["cycles_source"]
    assert data["energy_joules"] == pytest.approx(joules) and "Nordic" in data["energy_source"]


@pytest.mark.parametrize("target", ["cortex-m4", "rv32imfc"])
def test_what_is_not_known_is_left_out(lista_build: Build, lista: Any, target: str) -> None:
    """The table of cycles of a RISC-V of no maker in particular; the current of a processor that is no board."""
    build = replace(lista_build, kind="emulated", target=target)
    profile = Solver(build, _Device()).profile({"y": lista.problems(1)})  # type: ignore[arg-type]
    assert profile.cycles is None and profile.energy_joules is None and "(est.)" not in str(profile)
    assert profile.flash_limit_bytes is None and "fits" not in str(profile)


@pytest.mark.parametrize(
    ("target", "device", "says"),
    [
        ("rp2040", _Estimated(), "energy: not given, no current that the rp2040 draws at its clock is known"),
        ("cortex-m4", _Estimated(), "time and energy: not given, the cortex-m4 is no board with a clock and a current"),
        ("stm32f407", _Device(), "cycles, time and energy: not estimated, QEMU counts all instructions as one"),
        ("rv32imfc", _Device(), "cycles, time and energy: not estimated, no table is known for the rv32imfc"),
    ],
)
def test_why_a_figure_is_not_given(lista_build: Build, lista: Any, target: str, device: Any, says: str) -> None:
    profile = Solver(replace(lista_build, kind="emulated", target=target), device).profile({"y": lista.problems(1)})
    lines = str(profile).splitlines()
    assert says in lines and "µJ" not in lines[1] and max(map(len, lines)) <= 120


def test_an_emulated_device_solves_the_first_problem_only(lista_build: Build, lista: Any) -> None:
    build = replace(lista_build, kind="emulated", target="cortex-m4")
    solver = Solver(build, _Device())  # type: ignore[arg-type]
    truth = np.full((3, 9), [[4.0], [7.0], [7.0]])
    profile = solver.profile({"y": lista.problems(3)}, truth=truth)
    assert [row.error for row in profile.iterations] == [0.75, 0.5, 0.25, 0.0]
    with pytest.raises(InputError, match=r"truth: shape \(1, 9\); allowed: shape \(3, 9\)"):
        solver.profile({"y": lista.problems(3)}, truth=truth[:1])


def test_durations() -> None:
    values = [2.0, 0.0123, 4.56e-6, 16e-9, -3e-9, 0.0]
    assert [duration(v) for v in values] == ["2 s", "12.3 ms", "4.56 us", "16 ns", "-3 ns", "0 ns"]
