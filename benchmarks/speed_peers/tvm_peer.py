"""TVM's own way: its ONNX importer, its default pipeline with and without the fusion of `zero`, the virtual machine."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from speed_peers.base import Built, Task, Variants


def variants(task: Task) -> Variants:
    """The folded files: the importer refuses functions."""
    forms = [form for form in ("folded-plain", "folded") if form in task.files]
    if task.quick:
        forms = forms[:1]
    kinds = ("fused",) if task.quick or task.batch > 1 else ("fused", "default")
    return {f"{f}, {kind}": functools.partial(_call, task, task.files[f], kind) for f in forms for kind in kinds}


def _call(task: Task, path: Path, kind: str) -> Built:
    module = from_onnx(onnx.load(path), keep_params_in_input=False)
    if kind == "fused":
        module = relax.get_pipeline("zero")(module)
    target = tvm.target.Target({"kind": "llvm", "mcpu": tvm.target.codegen.llvm_get_system_cpu()})
    machine = relax.VirtualMachine(tvm.compile(module, target), tvm.cpu())
    main, inputs = machine["main"], [tvm.runtime.tensor(array) for array in task.inputs]
    run = functools.partial(main, *inputs)

    def answer() -> np.ndarray:
        found = run()
        tensor = found if isinstance(found, tvm.runtime.Tensor) else found[0]
        copied: np.ndarray = tensor.numpy()
        return copied

    return Built(run, answer, (machine,))
