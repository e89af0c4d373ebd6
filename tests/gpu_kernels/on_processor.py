"""Runs kernels that TVM prints in CUDA C on the processor: one shared library for many kernels."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.gpu import GpuChoices
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.cuda import CudaForm
from unfoldc.kernels.printers.tvm_cuda import tvm_cuda_sources

_HEADER = Path(__file__).with_name("lanes_on_processor.h")
_GUARD = 16  # elements behind an array that nobody may touch
_FAILURES = ("", "lanes wait for ever", "a block touched more shared memory than it has")
ORDERS = (0, 1, 7)


@dataclass(frozen=True)
class Kernel:
    """A program, mapped; `facts` is the launch description, `script` the kernels."""

    program: LoopProgram
    ports: tuple[Sequence[Port], Sequence[Port]]
    name: str
    script: str
    facts: Mapping[str, Any]


def kernel(
    program: LoopProgram, ports: tuple[Sequence[Port], Sequence[Port]], choices: GpuChoices, name: str
) -> Kernel:
    """The kernels of one program under a name that no other one in the library has."""
    sources = tvm_cuda_sources("solver", program, *ports, [CudaForm(name, 1, choices)])
    return Kernel(program, ports, name, sources["solver.tir"], json.loads(sources["solver_launch.json"]))


def cuda_c(kernels: Sequence[Kernel], plain: bool = False) -> str:
    """The CUDA C of all kernels, without those that have no stamps unless they are asked for."""
    from unfoldc.targets.cuda.compile_tvm import cuda_text

    functions = []
    for one in kernels:
        _, stamped_not, stamped = one.script.split("    @T.prim_func")
        functions += [stamped_not, stamped] if plain else [stamped]
    return cuda_text("@I.ir_module\nclass Module:\n" + "".join(f"    @T.prim_func{f}" for f in functions), 80)


@dataclass
class Library:
    """Kernels in machine code of this processor."""

    kernels: Sequence[Kernel]
    folder: Path
    change: Callable[[str], str] = str
    text: str = field(init=False)

    def __post_init__(self) -> None:
        self.text = self.change(cuda_c(self.kernels))
        source, library = self.folder / "kernels.cpp", self.folder / "kernels.so"
        callers = "".join(map(_caller, self.kernels))
        source.write_text(_HEADER.read_text() + self.text + callers)
        compiler = ["g++"] if shutil.which("g++") else [sys.executable, "-m", "ziglang", "c++"]
        flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-shared", "-fPIC", "-w"]
        done = subprocess.run(
            [*compiler, *flags, str(source), "-o", str(library)], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[:3000]
        self._library = ctypes.CDLL(str(library))

    def launch(
        self, name: str, arrays: Mapping[str, np.ndarray], batch: int, iterations: int | None = None,
        blocks: int = 2, order: int = 0,
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:  # fmt: skip
        """The outputs of a batch by name, and the stamps of each block. `arrays` are the inputs of the whole batch."""
        own = next(k for k in self.kernels if k.name == name)
        program, form = own.program, own.facts["forms"][0]
        count = program.iterations if iterations is None else iterations
        buffers = {"input": program.inputs, "output": program.outputs}
        batched = {name: port.batched for names, ports in zip(buffers.values(), own.ports, strict=True)
                   for name, port in zip(names, ports, strict=True)}  # fmt: skip
        values: list[Any] = []
        for _, _, kind, *number in own.facts["parameters"]:
            if kind == "input":
                values.append(_guarded(arrays[buffers[kind][number[0]]]))
            elif kind == "output":
                port = buffers[kind][number[0]]
                facts = program.buffers[port]
                values.append(_guarded(np.zeros((batch if batched[port] else 1, *facts.shape), facts.dtype)))
            elif kind == "weights":
                dtype, size, entries = own.facts["weights"][number[0]]
                values.append(_guarded(np.zeros(size, dtype)))
                for constant, first in entries:
                    plain = _plain(program.constants[constant])
                    values[-1][first : first + plain.size] = plain
            elif kind == "workspace":
                each = 1 if form["cooperative"] else blocks
                values.append(_guarded(np.zeros(form["workspace_bytes"] * each, np.uint8)))
            elif kind == "ticks":
                values.append(_guarded(np.zeros(blocks * (program.iterations + 2), np.int64)))
            else:
                values.append({"batch": batch, "iterations": count}[kind])
        words = [v.ctypes.data if isinstance(v, np.ndarray) else v for v in values]
        packed = (ctypes.c_uint64 * len(words))(*words)
        code = getattr(self._library, f"call_{name}")(
            packed, blocks, form["threads"], form["shared_bytes"], int(form["cooperative"]), order
        )
        assert code == 0, _FAILURES[code]
        outputs = {}
        for (_, _, kind, *number), value in zip(own.facts["parameters"], values, strict=True):
            if isinstance(value, np.ndarray):
                assert (value[value.size - _GUARD :].view(np.uint8) == 0xA5).all(), f"{kind} {number}: written beyond"
            if kind == "output":
                facts = program.buffers[buffers[kind][number[0]]]
                outputs[facts.name] = value[:-_GUARD].view(facts.dtype).reshape(-1, *facts.shape)
        return outputs, values[-1][:-_GUARD].reshape(blocks, -1)


def _caller(one: Kernel) -> str:
    """Functions that call a kernel with its arguments unpacked, and that launch it."""
    kinds = [str(row[1]) for row in one.facts["parameters"]]
    given = ", ".join(
        f"({'uchar' if k == 'uint8*' else f'{_c(k[:-1])}'} *)a[{i}]" if k.endswith("*") else f"({_c(k)})a[{i}]"
        for i, k in enumerate(kinds)
    )
    name = one.facts["forms"][0]["stamped"]
    return (
        f"\nstatic void lane_{one.name}(const uint64_t *a) {{ {name}({given}); }}\n"
        f'extern "C" int call_{one.name}(const uint64_t *a, int blocks, int threads, int shared, int all, int order) {{\n'
        f"  return launch(lane_{one.name}, a, blocks, threads, shared, all, order);\n}}\n"
    )


def _c(dtype: str) -> str:
    return {"float32": "float", "float64": "double", "int32": "int", "int8": "signed char", "uint8": "uchar"}.get(
        dtype, f"{dtype}_t"
    )


def _plain(array: np.ndarray) -> np.ndarray:
    """The elements in a row; truth values are bytes."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8) if flat.dtype == bool else flat


def _guarded(array: np.ndarray) -> np.ndarray:
    flat = _plain(array)
    behind = np.full(_GUARD * flat.itemsize, 0xA5, np.uint8).view(flat.dtype)
    return np.concatenate([flat, behind])
