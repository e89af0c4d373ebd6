"""emx-onnx-cgen: flat C from the ONNX file, compiled by gcc and clang with everything on, called through ctypes.

A batch is a loop in C over the program for one problem. Weights above 100 kB are read from the file that the generator
writes, as it does by default; temporaries are on the stack unless they are many megabytes.
"""

from __future__ import annotations

import ctypes
import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from speed_peers.base import Built, Task, Variants

_FAST = ("-O3", "-march=native", "-ffast-math")
COMPILERS = {
    "gcc": ("gcc", *_FAST),
    "gcc 512": ("gcc", *_FAST, "-mprefer-vector-width=512"),
    "clang": ("clang", *_FAST),
    "clang 512": ("clang", *_FAST, "-mprefer-vector-width=512"),
}
_STACK, _LARGE = 32 << 20, 64 << 10  # bytes of all temporaries, and of one that goes to the heap where they are more


def variants(task: Task) -> Variants:
    """File forms times compilers, those that are installed."""
    forms = [form for form in ("single", "single-plain") if form in task.files]
    compilers = [name for name, command in COMPILERS.items() if shutil.which(command[0])][: 2 if task.quick else 4]
    return {
        f"{form.replace('single', 'folded')}, {compiler}": functools.partial(_call, task, task.files[form], compiler)
        for form in forms
        for compiler in compilers
    }


def _call(task: Task, path: Path, compiler: str) -> Built:
    key = task.key(path)
    source = _generated(path, task.folder, key)
    library = task.folder / f"{key}-{compiler.replace(' ', '')}.so"
    if not library.is_file():
        aside = library.with_suffix(".partial")
        done = _run([*COMPILERS[compiler], "-shared", "-fPIC", "-o", str(aside), str(source), "-lm"])
        if done:
            raise RuntimeError(f"{compiler}: {done}")
        aside.rename(library)
    loaded = ctypes.CDLL(str(library))
    weights = task.folder / f"{key}.bin"
    if weights.is_file():
        loaded.model_load.restype = ctypes.c_bool
        if not loaded.model_load(str(weights).encode()):
            raise RuntimeError("the weights cannot be read")
    output = task.output()
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*task.inputs, output)]
    count = ctypes.c_long(task.batch)
    function = loaded.solve_batch
    function.restype = None
    return Built.into(output, functools.partial(function, count, *pointers), loaded, task.inputs)


def _generated(path: Path, folder: Path, key: str) -> Path:
    """The C file, with a loop over problems added; the generator's own names are left as they are."""
    source = folder / f"{key}.c"
    if source.is_file():
        return source
    made = folder / key
    made.mkdir(exist_ok=True)
    text = made / "model.c"
    command = [str(Path(sys.executable).parent / "emx-onnx-cgen"), "compile", str(path), str(text)]
    for threshold in ("0", str(_LARGE)):  # 0: everything on the stack
        done = _run([*command, "--large-temp-threshold", threshold])
        if done:
            raise RuntimeError(done)
        content = text.read_text()
        if threshold == "0" and _stack_bytes(content) <= _STACK:
            break
    weights = next(made.glob("*.bin"), None)
    if weights is not None:
        weights.rename(folder / f"{key}.bin")
    source.write_text(content + _loop(content))
    return source


def _stack_bytes(text: str) -> int:
    """Bytes of the temporaries of `model`."""
    body = text[text.rindex("void model(") :]
    sizes = re.findall(r"^\s+(?:float|int64_t|int32_t|bool|_Bool) \w+((?:\[\d+\])+);", body, re.M)
    return sum(4 * int(np.prod([int(d) for d in re.findall(r"\d+", size)])) for size in sizes)


def _loop(text: str) -> str:
    """A loop over problems around `model`, whose inputs and output lie one after the other."""
    signature = re.findall(r"^void model\((.*?)\) \{", text, re.M | re.S)[-1]
    arrays = re.findall(r"(?:const )?float (\w+)((?:\[(?:restrict )?\d+\])+|\[restrict \d+\](?:\[\d+\])*)", signature)
    sizes = [int(np.prod([int(d) for d in re.findall(r"\d+", dims)])) for _, dims in arrays]
    if len(arrays) != signature.count(",") + 1:
        raise RuntimeError(f"an unknown signature of the generated function: {signature}")
    names = [f"a{i}" for i in range(len(arrays))]
    casts = ", ".join(f"(void *)({name} + i * {size}L)" for name, size in zip(names, sizes, strict=True))
    parameters = ", ".join(f"float *{name}" for name in names)
    return f"\nvoid solve_batch(long n, {parameters}) {{\n    for (long i = 0; i < n; i++) model({casts});\n}}\n"


def _run(command: list[str]) -> str:
    """The first error of a command, empty where it ran."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode == 0:
        return ""
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return next((line for line in lines if "rror" in line), lines[-1] if lines else f"exit {done.returncode}").strip()
