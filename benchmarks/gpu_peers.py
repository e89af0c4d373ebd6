"""What ours is measured beside on a GPU: PyTorch eager, in a CUDA graph, compiled; JAX and ONNX Runtime if installed.

Each candidate is a call that puts its work into a queue, a function that waits for it, and the answer as NumPy's array.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx_in_arrays import function_of
from speed_cases.base import Graph

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Candidate:
    """`run` starts a solve, `wait` ends when all that was started is done, `answer` gives the last one's."""

    run: Callable[[], Any]
    wait: Callable[[], None]
    answer: Callable[[], np.ndarray]


def without_tf32() -> None:
    """Products in float32 as they are written, in every library."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")


def torch_candidate(run: Callable[[], torch.Tensor]) -> Candidate:
    """A call of PyTorch's."""
    return Candidate(run, torch.cuda.synchronize, lambda: run().cpu().numpy())


def captured(run: Callable[[], torch.Tensor]) -> Candidate:
    """A call of PyTorch's captured into a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), torch.inference_mode():
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        answer = run()

    def replay() -> torch.Tensor:
        graph.replay()
        return answer

    return torch_candidate(replay)


def eager(graph: Graph, inputs: Tensors) -> Callable[[], torch.Tensor]:
    """The module as it is."""
    module = graph.module(plain=True).cuda()

    def run() -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = module(*inputs)
            return found

    return run


def compiled(graph: Graph, inputs: Tensors, mode: str) -> Candidate:
    """torch.compile with static shapes and CUDA graphs, whose inputs stay where they are."""
    module = graph.module(plain=True).cuda()
    for tensor in inputs:
        torch._dynamo.mark_static_address(tensor)
    made = torch.compile(module, dynamic=False, fullgraph=True, mode=mode)

    def run() -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = made(*inputs)
            return found

    for _ in range(4):  # compiles, warms up, captures
        run()
    torch.cuda.synchronize()
    return torch_candidate(run)


def jax_candidate(path: Path, inputs: Tensors) -> Candidate:
    """The same operations compiled by XLA; raises ImportError where JAX or its GPU is missing."""
    jax = import_module("jax")
    if jax.default_backend() != "gpu":
        raise ImportError("JAX finds no GPU")
    jax.config.update("jax_default_matmul_precision", "highest")
    call = jax.jit(function_of(path, import_module("jax.numpy")))
    arrays = [jax.device_put(tensor.cpu().numpy()) for tensor in inputs]
    last: list[Any] = [None]

    def run() -> None:
        last[0] = call(*arrays)

    def answer() -> np.ndarray:
        run()
        return np.asarray(last[0])

    run()
    return Candidate(run, lambda: last[0].block_until_ready(), answer)


def onnxruntime_candidate(path: Path, inputs: Tensors, shape: tuple[int, ...]) -> Candidate:
    """ONNX Runtime on the GPU with bound memory; raises ImportError where its CUDA provider is missing."""
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise ImportError("ONNX Runtime has no CUDAExecutionProvider")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    providers = [("CUDAExecutionProvider", {"use_tf32": 0})]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise ImportError("ONNX Runtime cannot load its CUDAExecutionProvider")
    binding, output = session.io_binding(), torch.empty(shape, device="cuda")
    for port, tensor in zip(session.get_inputs(), inputs, strict=True):
        binding.bind_input(port.name, "cuda", 0, np.float32, tuple(tensor.shape), tensor.data_ptr())
    binding.bind_output(session.get_outputs()[0].name, "cuda", 0, np.float32, shape, output.data_ptr())

    def run() -> torch.Tensor:
        session.run_with_iobinding(binding)
        return output

    run()
    return torch_candidate(run)
