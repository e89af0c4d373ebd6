"""unfoldc: from an unfolded solver in PyTorch to a program on a device, measured per iteration."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> module that defines it; loaded on first use, so that a device needs no torch.
_LAZY = {
    "UnfoldcError": "unfoldc.errors",
    "export_onnx": "unfoldc.export",
    "iterate": "unfoldc.export",
    "unfold": "unfoldc.unfold_train",
    "approximate": "unfoldc.unfold_train",
    "compensate": "unfoldc.unfold_train",
    "compile": "unfoldc.pipeline",
    "load": "unfoldc.pipeline",
}

if TYPE_CHECKING:
    from unfoldc.errors import UnfoldcError
    from unfoldc.export import export_onnx, iterate
    from unfoldc.pipeline import compile, load
    from unfoldc.unfold_train import approximate, compensate, unfold

__all__ = [
    "UnfoldcError",
    "__version__",
    "approximate",
    "compensate",
    "compile",
    "export_onnx",
    "iterate",
    "load",
    "unfold",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'unfoldc' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_LAZY[name]), name)
