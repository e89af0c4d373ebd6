"""torch.compile of the module itself: one thread, static shapes, with and without weights frozen into the code."""

from __future__ import annotations

import functools

import torch
from speed_cases import find_graph

from speed_peers.base import Built, Task, Variants


def variants(task: Task) -> Variants:
    """Inductor with its options for inference, and for one problem as it is, too (a build takes long)."""
    return {
        kind: functools.partial(_call, task, kind)
        for kind in (("frozen",) if task.quick or task.batch > 1 else ("frozen", "default"))
    }


def _call(task: Task, kind: str) -> Built:
    import torch._inductor.config as config

    torch.set_num_threads(1)
    torch._dynamo.reset()
    config.freezing, config.cpp_wrapper = kind == "frozen", kind == "frozen"
    inputs = tuple(torch.from_numpy(array) for array in task.inputs)
    # As one flat graph: the compiler's own tracing refuses some of what networks do around their operations.
    module = torch.export.export(find_graph(task.graph).module(), inputs).module(check_guards=False)
    compiled = torch.compile(module, dynamic=False, fullgraph=True)
    with torch.inference_mode():
        compiled(*inputs)

    def run() -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = compiled(*inputs)
            return found

    return Built(run, lambda: run().numpy())
