"""Which back end is taken, and why."""

from __future__ import annotations

import pytest

from unfoldc.errors import InputError, ToolError
from unfoldc.runtime import backends


def _without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    installed = backends._installed
    monkeypatch.setattr(backends, "_installed", lambda name: name not in names and installed(name))


def test_auto_takes_the_first_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backends.choose("auto", "host", "host") == ("c", "auto: c, the fastest on host")
    _without(monkeypatch, "ziglang")
    reason = "auto: numba, because c needs ziglang, which is not installed"
    assert backends.choose("auto", "host", "host") == ("numba", reason)
    _without(monkeypatch, "ziglang", "numba")
    name, reason = backends.choose("auto", "host", "host")
    assert name == "reference" and "c needs ziglang" in reason and "numba needs numba" in reason


def test_auto_without_anything_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, "ziglang")
    with pytest.raises(ToolError, match="c needs ziglang, which is not installed; allowed: a Python environment for c"):
        backends.choose("auto", "cortex-m4", "emulated")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, "tvm")
    with pytest.raises(ToolError, match="backend tvm: apache-tvm not installed; .* pip install apache-tvm; or choose"):
        backends.choose("tvm", "host", "host")


def test_unknown_and_unfit_back_ends_are_refused() -> None:
    with pytest.raises(InputError, match="backend opencl on target host: no such back end; allowed: auto, c, numba"):
        backends.choose("opencl", "host", "host")
    with pytest.raises(InputError, match="backend c on target cuda: cannot run there; allowed: auto, tvm, cuda"):
        backends.choose("c", "cuda", "gpu")
    with pytest.raises(InputError, match="backend numba on target cortex-m4: cannot run there; allowed: auto, c"):
        backends.choose("numba", "cortex-m4", "emulated")


def test_the_reason_for_a_back_end_that_was_named() -> None:
    assert backends.choose("numba", "host", "host") == ("numba", "backend numba was asked for")
