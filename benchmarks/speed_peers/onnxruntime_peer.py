"""ONNX Runtime on the processor: one thread, all graph optimisations, a plain run or arrays bound in advance."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnxruntime

from speed_peers.base import Built, Task, Variants


def variants(task: Task) -> Variants:
    """Each file form with `run` and with a binding."""
    found = {}
    for form in ("ours", "plain", "folded"):
        if form in task.files:
            path = task.files[form]
            found[f"{form}, run"] = lambda path=path: _run(task, path)
            found[f"{form}, bound"] = lambda path=path: _bound(task, path)
    return found


def session(path: Path) -> onnxruntime.InferenceSession:
    """One thread, all optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(task: Task, path: Path) -> Built:
    opened = session(path)
    feed = dict(zip([i.name for i in opened.get_inputs()], task.inputs, strict=True))
    run = functools.partial(opened.run, None, feed)
    return Built(run, lambda: np.asarray(run()[0]))


def _bound(task: Task, path: Path) -> Built:
    opened = session(path)
    binding = opened.io_binding()
    output = task.output()
    for port, array in zip(opened.get_inputs(), task.inputs, strict=True):
        binding.bind_cpu_input(port.name, array)
    binding.bind_output(opened.get_outputs()[0].name, "cpu", 0, np.float32, output.shape, output.ctypes.data)
    return Built.into(output, functools.partial(opened.run_with_iobinding, binding), task.inputs)
