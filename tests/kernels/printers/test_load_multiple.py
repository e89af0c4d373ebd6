"""Blocks of numbers that generated C reads by one instruction: registers, text, and the answer on the device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.artifact import Artifact
from unfoldc.kernels.loops import Assign, Buffer, Let, Load, Local, Stmt, Var
from unfoldc.kernels.pipeline import build_artifact, load_program
from unfoldc.kernels.printers.c.load_multiple import LoadMultiple
from unfoldc.kernels.schedule_choices import default_for
from unfoldc.targets import find_target
from unfoldc.targets.emulator import Emulator
from unfoldc.targets.firmware import build_firmware

F = "float32"
BUFFERS = {"x": Buffer("x", F, (64,), "input")}


def reads(name: str, length: int) -> list[Stmt]:
    return [Let(f"{name}_{i}", Load("x", (build.add(Var("j"), build.index(i)),), F)) for i in range(length)]


def used(name: str) -> Assign:
    return Assign("acc", build.add(Local("acc", F), Local(f"{name}_0", F)))


def test_blocks_that_are_needed_at_a_time_have_registers_of_their_own() -> None:
    body = [*reads("a", 8), *reads("b", 4), used("a"), used("b"), *reads("c", 8), used("c"), used("b")]
    found = LoadMultiple("s", BUFFERS).blocks(body)
    assert {i: (b.length, b.register) for i, b in found.items()} == {0: (8, 16), 8: (4, 24), 14: (8, 16)}
    assert found[0].sum == "acc"


def test_where_registers_run_out_scalars_are_read_one_by_one() -> None:
    names = "abcd"
    body = [s for n in names for s in reads(n, 8)] + [used(n) for n in names]
    assert list(LoadMultiple("s", BUFFERS).blocks(body)) == [0, 8, 16]  # three times 8 of the 24


def test_rows_of_results_are_no_block_though_they_have_such_names() -> None:
    apart = [Let(f"v_{i}", Load("x", (build.add(Var("j"), build.index(6 * i)),), F)) for i in range(4)]
    mixed = [*reads("w", 2), Let("w_2", build.literal(1.0, F)), *reads("w", 4)[3:]]
    assert LoadMultiple("s", BUFFERS).blocks([*apart, *mixed, used("v"), used("w")]) == {}


def test_every_form_of_the_statement_reads_the_same() -> None:
    loads = LoadMultiple("s", BUFFERS)
    (block,) = loads.blocks([*reads("a", 4), used("a")]).values()
    assert loads.call(block, "x[j]") == "s_LOAD_4_S16(a_, &x[j], acc);"
    text = "\n".join(loads.texts())
    assert 'vldm %5, {s16-s19}"' in text and "const float a##0 = (p)[0]; " in text
    assert LoadMultiple("s", BUFFERS).texts() == []


def without(artifact: Artifact) -> Artifact:
    """The same sources with the statement as many loads, as a compiler without GNU's extensions sees them."""
    text = artifact.sources["solver.c"]
    assert "vldm" in text
    return replace(artifact, sources={**artifact.sources, "solver.c": text.replace("defined(__ARM_FP)", "0")})


def test_the_device_answers_the_same_with_and_without_and_counts_less_with(workshop: Any, tmp_path: Path) -> None:
    target = find_target("cortex-m4")
    model, program = load_program(workshop.saved("wide", 2))
    choices = replace(default_for(target.spec, "c"), straight=0)
    artifact = build_artifact(model, program, target.spec, "c", "solver", False, choices=choices)
    x = np.random.default_rng(5).standard_normal(artifact.inputs[0].shape).astype(F)
    counts, answers = [], []
    for form in (artifact, without(artifact)):
        emulator = Emulator(build_firmware(form, target, tmp_path, strict=True), form, target)
        answers.append(emulator.solve([x])[0])
        counts.append(emulator.count([x]).total)
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-5)
    assert counts[0] < counts[1]
