"""OpenVINO on the processor: one thread, the latency hint, float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino

from speed_peers.base import Built, Task, Variants

_OPTIONS = {
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_PRECISION_HINT": "f32",  # by default bfloat16 where the processor has matrix tiles of it
    "ENABLE_CPU_PINNING": False,
}


def variants(task: Task) -> Variants:
    """Each file form."""
    forms = [form for form in ("ours", "plain", "folded", "folded-plain") if form in task.files]
    return {form: lambda path=task.files[form]: _call(task, path) for form in forms}


def _call(task: Task, path: Path) -> Built:
    request = openvino.Core().compile_model(str(path), "CPU", _OPTIONS).create_infer_request()
    for i, array in enumerate(task.inputs):
        request.set_input_tensor(i, openvino.Tensor(array, shared_memory=True))
    request.infer()
    output: np.ndarray = request.get_output_tensor(0).data
    return Built.into(output, request.infer, request, task.inputs)
