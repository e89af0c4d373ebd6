"""The command line, as a person or a program uses it: texts, JSON, files, exit status, and no traceback ever."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import unfoldc
from unfoldc import cli, pipeline
from unfoldc.commands import progress
from unfoldc.errors import InputError
from unfoldc.targets.cuda.packages import Gpu

Capture = pytest.CaptureFixture[str]


def succeed(capsys: Capture, *arguments: object) -> str:
    """Standard output of a command that must end with status 0 and say nothing on standard error."""
    status = cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return out


def fail(capsys: Capture, *arguments: object) -> str:
    """The paragraph of a command that must end with status 1, on one line, and print nothing on standard output."""
    status = cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert (status, out) == (1, "") and "Traceback" not in err and err.startswith("unfoldc: ")
    assert err.count("\n") == 1
    return err.rstrip()


@pytest.fixture
def y_file(tiny: Any, tmp_path: Path) -> Path:
    np.save(tmp_path / "y.npy", tiny.problems())
    return tmp_path / "y.npy"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_shows_an_example(capsys: Capture, command: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([command, "--help"])
    out = capsys.readouterr().out
    assert exit_.value.code == 0 and f"example:\n  unfoldc {command}" in out
    assert all(len(line) <= 120 for line in out.splitlines())


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_examples_are_accepted(command: str) -> None:
    example = cli.parser()._subparsers._group_actions[0].choices[command].epilog.splitlines()[1]  # type: ignore[union-attr, index]
    words = example.split()
    assert words[:2] == ["unfoldc", command]
    assert callable(cli.parser().parse_args(words[1:]).run)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["compile"],
        ["run", "m.onnx"],
        ["profile", "m", "--repeats", "0"],
        ["compile", "m", "--batch", "x"],
    ]
    + [["compile", "m", "--dimension", "3"], ["run", "m", "y.npy", "--iterations", "-1"], ["targets", "--nonsense"]],
)
def test_wrong_usage_ends_with_status_2(capsys: Capture, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2 and "usage: unfoldc" in capsys.readouterr().err


def test_version(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--version"])
    assert (exit_.value.code, capsys.readouterr().out) == (0, f"unfoldc {unfoldc.__version__}\n")


def test_targets(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = succeed(capsys, "targets").splitlines()
    assert lines[0].split()[:5] == ["target", "core", "flash", "RAM", "clock"]
    assert lines[1].startswith("host") and any(line.startswith("cortex-m4 ") for line in lines)
    data = {t["name"]: t for t in json.loads(succeed(capsys, "targets", "--json"))}
    assert data["stm32f407"]["flash_bytes"] == 1024 * 1024 and data["stm32f407"]["kind"] == "emulated"
    assert data["host"]["flash_bytes"] is None
    assert data["cuda"]["kind"] == "gpu" and bool(data["cuda"]["gpus"]) != bool(data["cuda"]["why_no_gpu"])

    monkeypatch.setattr("unfoldc.targets.tools.find_tool", lambda program: None)
    monkeypatch.setattr("unfoldc.targets.description.find_spec", lambda name: None)
    *_, packages, programs = succeed(capsys, "targets").splitlines()
    assert packages == "to build and run: python -m pip install ziglang 'unfoldc[cuda]' unicorn pyelftools capstone"
    assert programs.startswith(
        "for QEMU and GNU builds (Debian, Ubuntu): apt-get install gcc-aarch64-linux-gnu gcc-arm"
    )
    data = {t["name"]: t for t in json.loads(succeed(capsys, "targets", "--json"))}
    assert data["esp32-c3"]["missing_tools"] == ["qemu-system-riscv32", "riscv64-unknown-elf-gcc"]


def test_targets_says_which_gpus_there_are(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Gpu("NVIDIA H200", 90, 141 << 30), Gpu("GTX 1080", 61, 8 << 30)
    monkeypatch.setattr("unfoldc.targets.cuda.packages.gpus", lambda: (there, ""))
    text = succeed(capsys, "targets")
    assert "cuda: NVIDIA H200, compute capability 9.0, 141 GiB\n" in text
    assert "cuda: GTX 1080, compute capability 6.1, 8 GiB, too old\n" in text
    data = {t["name"]: t for t in json.loads(succeed(capsys, "targets", "--json"))}
    assert [gpu["usable"] for gpu in data["cuda"]["gpus"]] == [True, False]
    monkeypatch.setattr("unfoldc.targets.cuda.packages.gpus", lambda: ((), "no NVIDIA driver is installed"))
    text = succeed(capsys, "targets")
    assert "cuda: solvers can be built here, but not run: no NVIDIA driver is installed\n" in text


def test_inspect(capsys: Capture, model: Path) -> None:
    text = succeed(capsys, "inspect", model)
    assert "3 iterations" in text and "flops" in text
    data = json.loads(succeed(capsys, "inspect", model, "--json"))
    assert data["iterations"] == 3
    assert "MatMul" in succeed(capsys, "inspect", "--operators").splitlines()
    assert "MatMul" in json.loads(succeed(capsys, "inspect", "--operators", "--json"))
    assert "inspect: no model; allowed: an ONNX file, or --operators." in fail(capsys, "inspect")


def test_compile_writes_a_folder_that_loads(capsys: Capture, model: Path, tiny: Any, tmp_path: Path) -> None:
    text = succeed(capsys, "compile", model, "-o", tmp_path / "build", "--symbol", "tiny")
    assert text.startswith("y (batch, 5) float32 -> x (batch, 9) float32\n3 iterations for host, backend c (auto: c,")
    assert "tiny.c" in text and "tiny.h" in text and "artifact.json" in text
    solver = pipeline.load(tmp_path / "build")
    np.testing.assert_allclose(solver(tiny.problems()), tiny.solve(tiny.problems()), atol=1e-6)


def test_compile_json_and_the_default_folder(
    capsys: Capture, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = json.loads(succeed(capsys, "compile", model, "--json", "--backend", "reference"))
    assert data["folder"] == "build/tiny-host" and Path(data["folder"], "artifact.json").is_file()
    assert (data["backend"], data["iterations"], data["flash_bytes"]) == ("reference", 3, None)
    assert data["inputs"] == {"y": {"dtype": "float32", "shape": [5], "batched": True}}


def test_compile_options_reach_the_compiler(capsys: Capture, model: Path, tmp_path: Path) -> None:
    succeed(capsys, "compile", model, "-o", tmp_path / "b", "--dimension", "batch=2", "--no-cache")
    assert pipeline.load(tmp_path / "b").inputs[0].shape == (2, 5)
    message = fail(capsys, "compile", model, "-o", tmp_path / "c", "--dimension", "Bach=3")
    assert "dimension 'Bach': no input of the model has" in message and "Did you mean 'batch'?" in message
    message = fail(capsys, "compile", model, "-o", tmp_path / "c", "--target", "cortex-m99")
    assert "cortex-m99" in message and not (tmp_path / "c").exists()


@pytest.mark.parametrize("source", ["model", "folder"])
def test_run_writes_the_answer(
    capsys: Capture, model: Path, tiny: Any, y_file: Path, tmp_path: Path, source: str
) -> None:
    path = model if source == "model" else pipeline.compile(model).save(tmp_path / "build")
    text = succeed(capsys, "run", path, y_file, "-o", tmp_path / "x.npy")
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), tiny.solve(tiny.problems()), atol=1e-6)
    assert text.startswith("3 of 3 iterations: all iterations ran\nx (4, 9) float32, from ")
    assert sorted(p.suffix for p in tmp_path.glob("*.np*")) == [".npy", ".npy"]


def test_run_says_what_is_not_finite(capsys: Capture, model: Path, tiny: Any, tmp_path: Path) -> None:
    y = tiny.problems()
    y[2, 1] = np.nan
    np.save(tmp_path / "y.npy", y)
    command = ["run", str(model), str(tmp_path / "y.npy"), "-o", str(tmp_path / "x.npy"), "--backend", "reference"]
    assert cli.main(command) == 3
    out, err = capsys.readouterr()
    assert out.startswith("3 of 3 iterations: the answer holds NaN or Inf") and " where finite, in " in out
    assert err == (
        "unfoldc: output x: 9 of 36 values are not finite (9 NaN, 0 Inf) in problem 2, first after iteration 1; "
        "allowed: finite numbers. Correct the input: y: 1 of 20 values are not finite (1 NaN, 0 Inf) in problem 2.\n"
    )
    assert np.isfinite(np.load(tmp_path / "x.npy")).sum() == 27
    assert cli.main([*command, "--json"]) == 3
    data = json.loads(capsys.readouterr().out)
    assert data["not_finite"] == {"x": {"values": 36, "nan": 9, "infinite": 0, "problems": [2]}}
    assert (data["status"], data["first_not_finite_iteration"]) == ("not_finite", 1)


def test_run_says_when_the_iterations_diverge(capsys: Capture, tiny: Any, tmp_path: Path) -> None:
    large = type(tiny)()
    large.w2 = (1e20 * np.eye(9)).astype(np.float32)  # 1e18, 1e38, Inf
    onnx.save(large.model(), tmp_path / "large.onnx")
    np.save(tmp_path / "y.npy", 1e18 * np.ones((2, 5), np.float32))
    arguments = ["run", str(tmp_path / "large.onnx"), str(tmp_path / "y.npy"), "--backend", "reference"]
    assert cli.main(arguments) == 3
    out, err = capsys.readouterr()
    assert ", nothing finite\n" in out
    assert "18 of 18 values are not finite (0 NaN, 18 Inf) in problem 0 and 1 more, first after iteration 3;" in err
    assert "The inputs are finite, so the iterations diverge" in err
    assert cli.main([*arguments, "--iterations", "2"]) == 0


def test_run_reads_and_writes_npz_and_names(
    capsys: Capture, model: Path, tiny: Any, y_file: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "y.npz", y=tiny.problems())
    for argument in (f"y={y_file}", tmp_path / "y.npz"):
        text = succeed(capsys, "run", model, argument, "-o", tmp_path / "x.npz", "--iterations", "2", "--json")
        with np.load(tmp_path / "x.npz") as file:
            np.testing.assert_allclose(file["x"], tiny.solve(tiny.problems(), 2), atol=1e-6)
        data = json.loads(text)
        assert (data["status"], data["iterations"], data["outputs"]) == ("stopped", 2, {"x": [4, 9]})


def test_options_of_a_compilation_do_not_fit_a_build_folder(
    capsys: Capture, model: Path, y_file: Path, tmp_path: Path
) -> None:
    folder = pipeline.compile(model).save(tmp_path / "build")
    for option in (["--target", "host"], ["--backend", "c"], ["--batch", "2"], ["--dimension", "n=3"]):
        message = fail(capsys, "run", folder, y_file, *option)
        assert f"{option[0]}: given for {folder}, which is compiled already; allowed: an ONNX file with" in message


def test_a_file_name_may_hold_an_equals_sign(capsys: Capture, model: Path, tiny: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "y=1.npy", tiny.problems())
    succeed(capsys, "run", model, tmp_path / "y=1.npy")


def test_run_refuses_what_is_wrong(capsys: Capture, model: Path, tiny: Any, y_file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((2, 6), np.float32))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", y=np.array([{}], dtype=object))
    np.savez(tmp_path / "z.npz", z=np.zeros(3))
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "z.npz").read_bytes()[:-40])
    x = ["-o", tmp_path / "x.npy"]
    assert "input y: shape (2, 6); allowed: (batch, 5)." in fail(capsys, "run", model, tmp_path / "wide.npy", *x)
    for name in ("objects.npy", "objects.npz"):
        message = fail(capsys, "run", model, tmp_path / name, *x)
        assert f"{name}: it holds Python objects; allowed: a .npy or .npz file of numbers." in message
    for name in ("text.npy", "cut.npz"):
        assert f"{name}: it" in fail(capsys, "run", model, tmp_path / name, *x)
    assert "none.npy: cannot be read (No such file" in fail(capsys, "run", model, tmp_path / "none.npy", *x)
    assert "input z: no such input" in fail(capsys, "run", model, tmp_path / "z.npz", *x)
    assert "an array too many; allowed: y." in fail(capsys, "run", model, y_file, y_file, *x)
    assert "input y: given again in" in fail(capsys, "run", model, y_file, f"y={y_file}", *x)
    assert "holds several arrays; allowed: a .npy file." in fail(capsys, "run", model, f"y={tmp_path / 'z.npz'}", *x)
    assert "iterations: 9; allowed: 1 to 3." in fail(capsys, "run", model, y_file, "--iterations", 9, *x)
    message = fail(capsys, "run", model, y_file, "-o", tmp_path / "x.txt")
    assert "1 arrays and the ending '.txt'; allowed: .npy or .npz." in message
    message = fail(capsys, "run", model, y_file, "-o", tmp_path / "none" / "x.npy")
    assert "none/x.npy: it cannot be written (No such file or directory); allowed: a place" in message
    assert not list(tmp_path.glob("*x.npy*")) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_disk_that_is_full_leaves_no_file(
    capsys: Capture, model: Path, y_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(file: Any, *_: Any, **__: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr("numpy.save", full)
    monkeypatch.setattr("numpy.lib.format.write_array", full)
    backend = ["--backend", "reference"]
    assert "No space left on device" in fail(capsys, "run", model, y_file, "-o", folder / name, *backend)
    assert list(folder.iterdir()) == []


def test_options_of_a_compilation_are_passed_on(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def record(path: Path, target: str, backend: str, **options: Any) -> None:
        seen.update(options, path=path, target=target, backend=backend)
        raise InputError("here", "seen", "", "")

    monkeypatch.setattr(pipeline, "compile", record)
    line = "m.onnx --target t --backend b --batch dynamic --dimension n=3 --dimension a=b=4 --no-cache"
    line += " --provider P --provider Q --threads 2 --sparse --allow-tf32 --on local"
    for command in (["compile", "--symbol", "s"], ["run", "y.npy"], ["profile"]):
        fail(capsys, command[0], *line.split(), *command[1:])
        assert callable(seen.pop("progress"))
        assert seen == {
            "path": Path("m.onnx"),
            "target": "t",
            "backend": "b",
            "batch": "dynamic",
            "dimensions": {"n": 3, "a=b": 4},
            "cache": False,
            "symbol": "s" if command[0] == "compile" else "solver",
            "providers": ["P", "Q"],
            "threads": 2,
            "sparse": True,
            "allow_tf32": True,
            "on": "local",
            "tune": None,
            "tune_log": None,
        }


def test_profile(capsys: Capture, model: Path, tiny: Any, y_file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", tiny.solve(tiny.problems(), 50))
    text = succeed(capsys, "profile", model, y_file, "--repeats", "5", "--truth", tmp_path / "x.npy")
    assert text.startswith("3 iterations on host, backend c, batch 4, 5 repetitions\n")
    assert "error: of x, relative to the truth that was given" in text
    data = json.loads(succeed(capsys, "profile", model, y_file, "--repeats", "5", "--json"))
    assert [row["k"] for row in data["iterations"]] == [1, 2, 3] and data["repeats"] == 5


def test_profile_without_inputs_takes_random_numbers(capsys: Capture, model: Path) -> None:
    assert cli.main(["profile", str(model), "--repeats", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["batch"] == 1
    assert err == "no inputs were given: measured on random numbers, so the errors mean little\n"


@pytest.mark.parametrize("quick", [False, True])
def test_demo_calls_the_demo(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool) -> None:
    seen: list[Any] = []

    def record(folder: Path, **options: Any) -> dict[str, int]:
        seen.append((folder, options))
        return {"a": 1}

    demo = type(sys)("unfoldc.demo")
    monkeypatch.setattr(demo, "run", record, raising=False)
    monkeypatch.setitem(sys.modules, "unfoldc.demo", demo)
    more = ["--quick"] if quick else []
    assert json.loads(succeed(capsys, "demo", "-o", tmp_path, "--json", *more)) == {"a": 1}
    steps = {"steps": 60, "hyper_steps": 20} if quick else {}
    assert seen == [(tmp_path, {"progress": False, **steps})]


def _raise(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(_: Any) -> None:
        raise error

    monkeypatch.setattr("unfoldc.commands.targets.run", run)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("here", "a", "b", "Do c."), "unfoldc: here: a; allowed: b. Do c."),
        (
            PermissionError(13, "Permission denied", "/x/y"),
            "unfoldc: /x/y: Permission denied; check the path, the perm",
        ),
        (OSError(28, "No space left on device"), "unfoldc: system: No space left on device; check the path"),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch.nn"),
            "unfoldc: torch: this command needs it and it is not installed; run pip install 'unfoldc[train]'",
        ),
        (ModuleNotFoundError("No module named 'unfoldc.x'", name="unfoldc.x"), "unfoldc: internal error: ModuleNotFo"),
        (MemoryError(), "unfoldc: memory: there is not enough of it for this model or batch;"),
        (
            ValueError("odd\x1b[31m thing"),
            "unfoldc: internal error: ValueError: odd [31m thing; this is a mistake in un",
        ),
        (RecursionError("deep"), "unfoldc: internal error: RecursionError: deep; this is a mistake in unfoldc"),
    ],
)
def test_any_error_ends_in_one_paragraph(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    _raise(monkeypatch, error)
    assert fail(capsys, "targets").startswith(message)


@pytest.mark.parametrize("arguments", [["--debug", "targets"], ["targets", "--debug"]])
def test_debug_prints_the_traceback(capsys: Capture, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    _raise(monkeypatch, ValueError("odd"))
    assert cli.main(arguments) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err and err.endswith("ValueError: odd\n")


def test_an_internal_error_says_how_to_get_the_traceback(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    _raise(monkeypatch, AssertionError("x"))
    assert "Run the command again with --debug for the traceback, and report it" in fail(capsys, "targets")


def test_ctrl_c_ends_with_status_130(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    _raise(monkeypatch, KeyboardInterrupt())
    assert cli.main(["targets"]) == 130
    assert capsys.readouterr() == ("", "unfoldc: interrupted\n")


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "unfoldc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_python_m_unfoldc_is_the_command_line(model: Path) -> None:
    done = process("targets", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)[0]["name"] == "host"
    done = process("inspect", "/none.onnx")
    assert (done.returncode, done.stdout) == (1, "") and "Traceback" not in done.stderr
    assert re.match(r"unfoldc: /none\.onnx: ", done.stderr)
    assert process("nonsense").returncode == 2


def test_a_reader_that_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "unfoldc", "inspect", "--operators"],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_progress_of_a_device_cannot_command_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.status() as say:
        say("waiting for a board (\x1b]0;title\x07 jobs)")
    assert capsys.readouterr().err == "\r\x1b[Kwaiting for a board ( ]0;title  jobs) ...\r\x1b[K"


def test_long_work_says_a_plain_line_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.01)
    threads, said = threading.active_count(), ""
    with progress.status() as say:
        say("compiling\x1b[2K the model")
        while said.count("\n") < 2:  # the suite's time limit ends a test that waits for ever
            said += capsys.readouterr().err
            time.sleep(0.01)
    assert said.startswith("0 s: compiling [2K the model\n0 s: compiling [2K the model\n")
    assert threading.active_count() == threads
    capsys.readouterr()
    monkeypatch.setattr(progress, "INTERVAL", 600.0)
    with progress.status() as say:
        say("what is done soon")
    assert capsys.readouterr().err == ""
