"""Compiling for a board: a folder to build, to load, to work in."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from project_builds import build, run
from tools_at_hand import needs_tool

from unfoldc import cli, pipeline
from unfoldc.errors import InputError

Capture = pytest.CaptureFixture[str]


def command(capsys: Capture, *arguments: object) -> str:
    assert cli.main([str(a) for a in arguments]) == 0
    return capsys.readouterr().out


def test_the_command_writes_a_project_and_says_what_comes_next(
    capsys: Capture, model: Path, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my project"
    monkeypatch.setattr("unfoldc.targets.tools.find_tool", lambda program: f"/usr/bin/{program}")
    text = command(capsys, "compile", model, "--target", "stm32f407", "-o", folder, "--symbol", "tiny")
    last = text.splitlines()[-1]
    assert last == f"next: cd '{folder}' && cmake --preset gcc && cmake --build --preset gcc && ctest --preset gcc"
    assert "CMakeLists.txt, CMakePresets.json, README.md" in text and "tiny.c" in text
    solver = pipeline.load(folder)
    np.testing.assert_allclose(solver(tiny.problems()), tiny.solve(tiny.problems()), atol=1e-6)
    assert sorted(solver.artifact.weights) and solver.artifact.weights["w0"].dtype == np.float32
    readme = (folder / "README.md").read_text()
    assert f"| flash | {solver.flash_bytes} bytes of 1048576 |" in readme
    counts = solver.profile({"y": tiny.problems(1)}, repeats=1)
    numbers = [row.instructions or 0 for row in counts.iterations]
    span = f"{min(numbers)} to {max(numbers)}"
    assert f"| instructions of an iteration, on the problem of the self-test | {span} |" in readme
    assert "not tried" not in readme and "magnifies" not in readme
    assert f"by ziglang {importlib.metadata.version('ziglang')} |" in readme


def test_what_runs_under_an_operating_system_has_no_flash(
    capsys: Capture, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = command(capsys, "compile", model, "--target", "raspberry-pi-4", "-o", tmp_path / "p")
    assert "\ncode and constants " in text and "flash" not in text
    readme = (tmp_path / "p" / "README.md").read_text()
    assert "\n| code and constants | " in readme and "flash" not in readme.lower()
    text = command(capsys, "profile", model, "--target", "raspberry-pi-4")
    assert "\ncode and constants " in text and "flash" not in text and " of 268435456" not in text


def test_missing_tools_are_named_with_their_command(
    capsys: Capture, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unfoldc.targets.tools.find_tool", lambda program: None)
    monkeypatch.setattr("shutil.which", lambda program, **_: "/elsewhere/python3" if program == "python3" else None)
    data = json.loads(command(capsys, "compile", model, "--target", "stm32f407", "-o", tmp_path / "p", "--json"))
    install, test = data["next"]
    assert install == "apt-get install cmake qemu-system-arm"
    python = f"-DUNFOLDC_PYTHON={shlex.quote(sys.executable)}"  # CMake would find another one, without zig
    assert f"cmake --preset zig {python} && cmake --build --preset zig && ctest --preset zig" in test
    assert data["kept"] == []


def test_compiling_again_keeps_what_people_did(capsys: Capture, model: Path, tiny: Any, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    arguments = ("compile", model, "--target", "stm32f407", "-o", folder)
    command(capsys, *arguments)
    (folder / "main.c").write_text("int main(void) { return 0; }\n")
    (folder / "board.c").write_text("/* mine */\n")
    changed = tiny.model()
    changed.graph.initializer[2].raw_data = np.float32(0.3).tobytes()
    onnx.save(changed, model)
    before = (folder / "selftest" / "selftest_data.c").read_text()
    assert "left as they are, because somebody has changed them: main.c\n" in command(capsys, *arguments)
    assert (folder / "main.c").read_text().startswith("int main(void) { return 0; }")
    assert (folder / "board.c").read_text() == "/* mine */\n"
    assert (folder / "selftest" / "selftest_data.c").read_text() != before
    pipeline.load(folder)(tiny.problems(1))
    (folder / "solver.c").write_text("int fixed;\n")
    assert cli.main([str(a) for a in arguments]) == 1
    assert "not as they are: solver.c; allowed: generated sources as they were written" in capsys.readouterr().err
    assert (folder / "solver.c").read_text() == "int fixed;\n"


def test_a_project_that_was_loaded_is_saved_again(model: Path, tiny: Any, tmp_path: Path) -> None:
    first = pipeline.compile(model, "stm32f407").save(tmp_path / "first")
    (first / "notes.txt").write_text("mine")
    second = pipeline.load(first).save(tmp_path / "a" / "second")
    names = {p.relative_to(second) for p in second.rglob("*")}
    assert names == {p.relative_to(first) for p in first.rglob("*")} - {Path("notes.txt")}
    assert all((first / n).read_bytes() == (second / n).read_bytes() for n in names if (first / n).is_file())
    assert pipeline.load(first).write_project(first).kept == () and (first / "notes.txt").is_file()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["second"]
    pipeline.compile(model).save(first)
    assert (first / "notes.txt").is_file() and not (first / "main.c").exists()
    np.testing.assert_allclose(pipeline.load(first)(tiny.problems()), tiny.solve(tiny.problems()), atol=1e-6)


def test_programs_of_an_earlier_build_do_not_stay(model: Path, cache: Path, tmp_path: Path) -> None:
    """Runners lie in the folder of a build, in the cache too, from the moment it is used on a device."""
    stale = (f"qemu/solver-{'0' * 24}.elf", f"remote/solver-{'1' * 24}.runner", f"remote/solver-{'2' * 24}.elf")

    def use(folder: Path) -> None:
        for name in stale:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()

    host, board = pipeline.compile(model, backend="reference"), pipeline.compile(model, "stm32f407")
    for entry in cache.iterdir():
        use(entry)
    folder = host.save(tmp_path / "p")
    assert not (folder / "qemu").exists() and not (folder / "remote").exists()
    use(folder)
    (folder / "remote" / "mine.elf").touch()
    for _ in range(2):
        board.save(folder)
        assert not (folder / "qemu").exists()
        assert [p.name for p in (folder / "remote").iterdir()] == ["mine.elf"]
        use(folder)


def test_what_cannot_be_written_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="project: the target host; allowed: a device"):
        pipeline.compile(model).write_project(tmp_path / "p")
    with pytest.raises(InputError, match="symbol main: its sources and the project's both have main.c"):
        pipeline.compile(model, "stm32f407", symbol="main").save(tmp_path / "p")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="it holds something else"):
        pipeline.compile(model, "stm32f407").save(tmp_path / "other")
    assert not (tmp_path / "p").exists() and [p.name for p in (tmp_path / "other").iterdir()] == ["notes.txt"]
    assert not list(tmp_path.glob(".partial*"))


@needs_tool("cmake", "arm-none-eabi-gcc", "qemu-system-arm")
def test_from_an_onnx_file_to_a_self_test_in_qemu(capsys: Capture, model: Path, tmp_path: Path) -> None:
    command(capsys, "compile", model, "--target", "stm32f407", "-o", tmp_path / "p")
    build(tmp_path / "p", "gcc")
    assert "100% tests passed" in run(tmp_path / "p", "ctest", "--preset", "gcc")
    text = (tmp_path / "p" / "README.md").read_text()
    by_hand = re.search(r"^    (qemu-system-arm .*)$", text, flags=re.M)
    assert by_hand and "self-test passed, 9 elements" in run(tmp_path / "p", *by_hand[1].split())


@pytest.mark.slow
@needs_tool("cmake", "arm-none-eabi-gcc", "qemu-system-arm")
def test_machine_code_of_tvm_is_linked(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    folder = pipeline.compile(model, "stm32f407", "tvm").save(tmp_path / "p")
    build(folder, "gcc")
    assert "100% tests passed" in run(folder, "ctest", "--preset", "gcc")


def test_a_project_that_cannot_be_written_names_its_folder(
    capsys: Capture, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(source), None, str(target))

    monkeypatch.setattr("shutil.copyfile", full)
    assert cli.main(["compile", str(model), "--target", "stm32f407", "-o", str(tmp_path / "p")]) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        f"unfoldc: {tmp_path / 'p'}: it cannot be written (No space left on device); allowed: a folder"
    )
    assert not (tmp_path / "p").exists() and not list(tmp_path.glob(".partial*"))
