"""Compiled solvers kept on disk, so that the same model compiles once."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unfoldc.runtime.machine import processor

_MOST_ENTRIES = 200
_TOOLS = ("ziglang", "numba", "llvmlite", "apache-tvm", "onnx", "onnxruntime", "numpy")
_TOOLS_FOR_GPUS = ("numba-cuda", "cuda-bindings", "nvidia-nvvm", "nvidia-nvjitlink")
_OWN = ("unfoldc.kernels", "unfoldc.targets", "unfoldc.runtime")


def cache_folder() -> Path | None:
    """`$XDG_CACHE_HOME/unfoldc/solvers`, made if need be; None where no place is this user's alone to write to.

    Entries are code that is loaded, so a folder that others may write to is not used.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "unfoldc" / "solvers"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except (OSError, RuntimeError):
        return None
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def cache_key(model: bytes, options: Mapping[str, Any]) -> str:
    """A SHA-256 over all that the compiled program depends on, but for the model's external data."""
    text = json.dumps([options, _versions(), processor(), _own_sources()], sort_keys=True)
    return hashlib.sha256(hashlib.sha256(model).digest() + text.encode()).hexdigest()


def touch(entry: Path) -> None:
    """Mark an entry as used now."""
    with contextlib.suppress(OSError):
        os.utime(entry)


def prune(folder: Path, most: int = _MOST_ENTRIES) -> None:
    """Remove the entries that were not used for the longest time, down to `most`."""
    with contextlib.suppress(OSError):
        entries = [e for e in folder.iterdir() if e.is_dir() and not e.name.startswith(".")]
        for entry in sorted(entries, key=lambda e: e.stat().st_mtime)[:-most]:
            shutil.rmtree(entry, ignore_errors=True)


def tool_versions(tools: Sequence[str]) -> dict[str, str]:
    """The versions of these tools, and which compiler of ours it is."""
    return {**{name: _versions().get(name, "") for name in tools}, "unfoldc": _own_sources()[:16]}


@functools.cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in (*_TOOLS, *_TOOLS_FOR_GPUS):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    return found


@functools.cache
def _own_sources() -> str:
    """A digest of unfoldc's own compiler: another version of it may compile the same model differently."""
    total = hashlib.sha256()
    for package in _OWN:
        spec = importlib.util.find_spec(package)
        for root in map(Path, (spec and spec.submodule_search_locations) or []):
            for path in sorted(p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
                total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()
