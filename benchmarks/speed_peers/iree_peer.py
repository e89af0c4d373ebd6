"""IREE: its ONNX importer, `iree-compile` for this processor at -O3, the synchronous device in the calling thread."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import iree.runtime
import numpy as np

from speed_peers.base import Built, Task, Variants

_SCRIPTS = Path(sys.executable).parent
_FLAGS = (
    "--iree-hal-target-device=local",
    "--iree-hal-local-target-device-backends=llvm-cpu",
    "--iree-llvmcpu-target-cpu=host",
    "--iree-opt-level=O3",
)


def variants(task: Task) -> Variants:
    """The folded files, and the plain one."""
    forms = [form for form in ("folded", "folded-plain") if form in task.files]
    return {form: functools.partial(_call, task, task.files[form]) for form in forms}


def _call(task: Task, path: Path) -> Built:
    key = task.key(path)
    product = task.folder / f"{key}.vmfb"
    if not product.is_file():
        text, aside = task.folder / f"{key}.mlir", task.folder / f"{key}.partial"
        _tool(["iree-import-onnx", str(path), "-o", str(text)])
        _tool(["iree-compile", str(text), "-o", str(aside), *_FLAGS])
        aside.rename(product)
        text.unlink()
    device = iree.runtime.get_device("local-sync")
    instance = iree.runtime.VmInstance()
    module = iree.runtime.VmModule.mmap(instance, str(product))
    context = iree.runtime.VmContext(instance, [iree.runtime.create_hal_module(instance, device), module])
    name = next(n for n in module.function_names if not n.startswith("_") and not n.endswith("$async"))
    function = module.lookup_function(name)
    views = [iree.runtime.asdevicearray(device, array)._buffer_view for array in task.inputs]
    arguments = iree.runtime.VmVariantList(len(views))
    for view in views:
        arguments.push_ref(view.ref)

    def run() -> np.ndarray:
        answers = iree.runtime.VmVariantList(1)
        context.invoke(function, arguments, answers)
        found = answers.get_as_object(0, iree.runtime.HalBufferView)
        array: np.ndarray = found.map().asarray(found.shape, np.dtype(np.float32))
        return array

    return Built(run, run, (views, instance, module))


def _tool(command: list[str]) -> None:
    done = subprocess.run(
        [str(_SCRIPTS / command[0]), *command[1:]], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()[-1:]
        raise RuntimeError(f"{command[0]}: {(lines or [f'exit status {done.returncode}'])[0].strip()}")
