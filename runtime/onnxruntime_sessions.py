"""ONNX Runtime sessions: with which threads and on which execution providers models run."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from unfoldc.errors import InputError, ToolError

CPU = "CPUExecutionProvider"
# Providers whose memory is not the processor's: where their arrays are kept. Others copy at the border of a model.
_DEVICES = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}


def load_onnxruntime() -> Any:
    """The package. Raises ToolError where it is missing."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ToolError(
            "backend onnxruntime",
            f"onnxruntime cannot be imported ({error})",
            "a Python environment that has it",
            "Install: pip install onnxruntime; or choose another back end.",
        ) from None


def checked_providers(providers: Sequence[str] | None) -> list[str]:
    """The execution providers to use, the processor alone where None. Raises InputError for one that is not there."""
    if providers is None:
        return [CPU]
    available = load_onnxruntime().get_available_providers()
    wanted = [providers] if isinstance(providers, str) else list(providers)
    unknown = [p for p in wanted if p not in available]
    if unknown or not wanted:
        raise InputError(
            "providers",
            repr(unknown[0]) if unknown else "none",
            ", ".join(available),
            "Choose among these, or install the build of ONNX Runtime that has it.",
        )
    return wanted


def device_of(providers: Sequence[str]) -> str:
    """Where arrays that pass between models are kept, as ONNX Runtime calls it."""
    return _DEVICES.get(providers[0], "cpu")


def new_session(model: bytes, providers: Sequence[str], threads: int = 1, *, optimise: bool = True) -> Any:
    """A session for the model. Raises ToolError where a provider cannot start; ONNX Runtime's own errors pass."""
    runtime = load_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised; there is no need to print them too
    # A thread that waits in a loop takes time from the caller between two iterations.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimise:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(model, options, providers=list(providers))
    silent = [p for p in providers if p not in session.get_providers()]
    if silent:
        raise ToolError(
            f"provider {silent[0]}",
            "ONNX Runtime could not start it",
            "a provider whose libraries and device are there",
            "Install what it needs, or choose another with providers=[...].",
        )
    return session


def first_line(error: Exception) -> str:
    """What an error of ONNX Runtime says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
