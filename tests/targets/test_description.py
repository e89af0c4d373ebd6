from __future__ import annotations

import pytest

import unfoldc.targets.description as description
from unfoldc.errors import ToolError
from unfoldc.targets import find_target


def test_missing_packages_and_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    t = find_target("cortex-m4")
    found = {"ziglang"}
    monkeypatch.setattr(description, "find_spec", lambda name: object() if name in found else None)
    assert t.missing() == ("unicorn", "pyelftools", "capstone")
    assert t.install_command() == "python -m pip install unicorn pyelftools capstone"
    found |= {"unicorn", "elftools", "capstone"}  # pyelftools is imported under another name
    assert t.missing() == ()
    assert t.install_command() == ""


def test_a_missing_tool_is_named_with_its_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "find_spec", lambda name: None)
    with pytest.raises(
        ToolError, match="building x.so: ziglang and unicorn not installed.*`python -m pip install ziglang unicorn`"
    ):
        description.require_packages(["ziglang", "unicorn"], "building x.so")
