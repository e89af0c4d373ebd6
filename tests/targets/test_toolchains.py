from __future__ import annotations

import logging
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import unfoldc.targets.description as description
from unfoldc.errors import ToolError
from unfoldc.targets import toolchains


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "unfoldc" / "zig"


@pytest.fixture
def fake_run(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The compiler replaced by one that succeeds at once; the calls are recorded."""
    calls: list[Any] = []

    def run(command: list[str], **options: Any) -> SimpleNamespace:
        calls.append((command, options))
        return SimpleNamespace(returncode=0, stdout="", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_the_compilers_cache_is_in_the_users_cache_folder(own_cache: Path, fake_run: list[Any], tmp_path: Path) -> None:
    toolchains.run_compiler(["-c", "a.c"], tmp_path, "test")
    command, options = fake_run[0]
    assert command[1:] == ["-m", "ziglang", "cc", "-c", "a.c"]
    assert options["cwd"] == tmp_path
    assert options["env"]["ZIG_GLOBAL_CACHE_DIR"] == options["env"]["ZIG_LOCAL_CACHE_DIR"] == str(own_cache)
    assert own_cache.is_dir()


@pytest.mark.parametrize("value", ["", "relative/cache"])
def test_an_unusable_cache_variable_means_the_default(
    value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert toolchains.cache_folder() == tmp_path / ".cache" / "unfoldc" / "zig"


def test_a_cache_that_cannot_be_written_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ToolError, match=r"cache: .*cannot be created \(Not a directory\).*Set XDG_CACHE_HOME"):
        toolchains.cache_folder()


@pytest.mark.usefixtures("own_cache", "fake_run")
def test_the_first_build_for_a_target_says_that_it_takes_longer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    messages: list[str] = []
    for key in (("m4",), ("m4",), ("host",)):
        toolchains.run_compiler([], tmp_path, "test", library_key=key, progress=messages.append)
    assert len(messages) == 2 and "first time only" in messages[0]
    with caplog.at_level(logging.INFO, "unfoldc.targets"):
        toolchains.run_compiler([], tmp_path, "test", library_key=("new",))
    assert "first time only" in caplog.text


def test_a_missing_compiler_is_named_with_its_pip_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(description, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match="building s.so: ziglang not installed.*`python -m pip install ziglang`"):
        toolchains.run_compiler([], tmp_path, "building s.so")


def test_a_compiler_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ToolError, match="building s.so: the C compiler had not finished after 3 s"):
        toolchains.run_compiler([], tmp_path, "building s.so", timeout=3.0)


def test_compiler_messages_are_shortened_to_the_first_error(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int f(void) { return 1 +; }\nint g(void) { return h(; }\n")
    with pytest.raises(
        toolchains.CompilerError, match="test: the C compiler stopped: a.c:1:25: error: expected expression;"
    ) as e:
        toolchains.run_compiler(["-c", "a.c", "-o", "a.o"], tmp_path, "test")
    assert "a.c:2" in e.value.output and "a.c:2" not in str(e.value)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "warning: w\nld.lld: error: undefined symbol: f\n>>> referenced by a.c:1\n>>>   /x/a.o:(g)\n",
            "ld.lld: error: undefined symbol: f (referenced by a.c:1)",
        ),
        ("something\nwent wrong\n\n", "went wrong"),
        ("", ""),
    ],
)
def test_first_error(output: str, expected: str) -> None:
    assert toolchains.first_error(output) == expected


@pytest.mark.parametrize(
    ("output", "do"),
    [
        ("error: in backend: No space left on device", "Make room"),
        ("error: unknown CPU: 'nix'", "cpu= in the address"),
        ("x.c:1:1: error: expected ';'", "report this"),
    ],
)
def test_what_to_do_about_a_compilers_error(output: str, do: str) -> None:
    assert do in toolchains.CompilerError("a build", output, 1).do


def test_a_compiler_that_dies_in_silence_is_reported() -> None:
    assert "exit status 9, no message" in str(toolchains.CompilerError("test", "", 9))


def test_build_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), toolchains.build_folder(tmp_path / "new", {"a.c": "int a;\n"}) as folder:
        assert (folder / "a.c").read_text() == "int a;\n"
        assert folder.parent == tmp_path / "new"
        raise RuntimeError
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("name", ["../a.c", "/tmp/a.c", "x/a.c", ".."])
def test_sources_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    with (
        pytest.raises(ToolError, match="compiled sources: .* is not a plain file name"),
        toolchains.build_folder(tmp_path, {name: ""}),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_build_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ToolError, match=r"build folder .*file/x: it cannot be written .*Choose another folder"),
        toolchains.build_folder(tmp_path / "file" / "x", {}),
    ):
        pass
