"""The peers of the speed benchmark by name: the module with its variants, and what it needs installed."""

from __future__ import annotations

import importlib
from importlib import metadata
from importlib.util import find_spec

from speed_peers.base import Task, Variants

# Ours first: one entry for each back end. The rest is what ours is measured beside.
OURS = ("c", "numba", "tvm")
PEERS: dict[str, tuple[str, str]] = {
    "onnxruntime": ("onnxruntime_peer", "onnxruntime"),
    "tvm-relax": ("tvm_peer", "tvm"),
    "iree": ("iree_peer", "iree.compiler"),
    "openvino": ("openvino_peer", "openvino"),
    "torch.compile": ("torch_compile_peer", "torch"),
    "emx": ("emx_peer", "emx_onnx_cgen"),
}
PACKAGES = {
    "onnxruntime": "onnxruntime", "tvm-relax": "apache-tvm", "iree": "iree-base-compiler", "openvino": "openvino",
    "torch.compile": "torch", "emx": "emx-onnx-cgen",
}  # fmt: skip


def installed(name: str) -> bool:
    """Whether a peer can be built here."""
    if name in OURS:
        return name == "c" or find_spec(name) is not None
    try:
        return find_spec(PEERS[name][1]) is not None
    except ModuleNotFoundError:
        return False


def variants(name: str, task: Task) -> Variants:
    """How this peer, or our back end of that name, may be built for the task."""
    if name in OURS:
        from speed_peers import unfoldc_peer

        return unfoldc_peer.variants(task, name)
    found: Variants = importlib.import_module(f"speed_peers.{PEERS[name][0]}").variants(task)
    return found


def versions() -> dict[str, str]:
    """The version of each peer that is installed."""
    found = {}
    for name, package in PACKAGES.items():
        try:
            found[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
