"""Runs kernels that TVM prints in CUDA C on the processor: one shared library for many kernels."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
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
_C_TYPES = {"float32": "float", "float64": "double", "int32": "int", "int8": "signed char", "uint8": "uchar"}
ORDERS = (0, 1, 7)
"""Of lanes between barriers: forwards, backwards, another one each time."""


class Code:
    """Kernels in machine code of this processor. `parameters`: of each kernel the types of its parameters."""

    def __init__(self, text: str, parameters: Mapping[str, Sequence[str]], folder: Path) -> None:
        source, library = folder / "kernels.cpp", folder / "kernels.so"
        callers = (line for item in parameters.items() for line in _caller(*item))
        source.write_text(_HEADER.read_text() + text + "\n".join(callers))
        compiler = ["g++"] if shutil.which("g++") else [sys.executable, "-m", "ziglang", "c++"]
        flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-shared", "-fPIC", "-w"]
        command = [*compiler, *flags, str(source), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[:3000]
        self._library = ctypes.CDLL(str(library))

    def launch(
        self, kernel: str, words: Sequence[int], blocks: int, threads: int, shared: int, cooperative: bool, order: int
    ) -> None:
        """Run a kernel whose parameters are these 64-bit words."""
        packed = (ctypes.c_uint64 * len(words))(*words)
        status = getattr(self._library, f"call_{kernel}")(packed, blocks, threads, shared, int(cooperative), order)
        assert status == 0, _FAILURES[status]


def _caller(kernel: str, parameters: Sequence[str]) -> Iterator[str]:
    """Functions that call a kernel with its arguments unpacked, and that launch it."""
    kinds = [_C_TYPES.get(k.rstrip("*"), f"{k.rstrip('*')}_t") + " *" * k.endswith("*") for k in parameters]
    given = ", ".join(f"({kind})words[{i}]" for i, kind in enumerate(kinds))
    words = "const uint64_t *words"
    yield f"\nstatic void lane_{kernel}({words}) {{ {kernel}({given}); }}"
    yield f'extern "C" int call_{kernel}({words}, int blocks, int threads, int shared, int all, int order) {{'
    yield f"  return launch(lane_{kernel}, words, blocks, threads, shared, all, order);\n}}"


@dataclass(frozen=True)
class Kernel:
    """A program, mapped; `facts` is the launch description, `script` the kernels."""

    program: LoopProgram
    ports: tuple[Sequence[Port], Sequence[Port]]
    name: str
    script: str
    facts: Mapping[str, Any]

    @property
    def entry(self) -> str:
        """The name of the kernel."""
        return str(self.facts["forms"][0]["kernel"])


def kernel(
    program: LoopProgram, ports: tuple[Sequence[Port], Sequence[Port]], choices: GpuChoices, name: str
) -> Kernel:
    """The kernels of one program under a name that no other one in the library has."""
    sources = tvm_cuda_sources("solver", program, *ports, [CudaForm(name, 1, choices)])
    return Kernel(program, ports, name, sources["solver.tir"], json.loads(sources["solver_launch.json"]))


@dataclass
class Library:
    """The kernels of many programs; `change` alters their text."""

    kernels: Sequence[Kernel]
    folder: Path
    change: Callable[[str], str] = str
    text: str = field(init=False)

    def __post_init__(self) -> None:
        from unfoldc.targets.cuda.compile_tvm import cuda_text

        head = "    @T.prim_func"
        functions = [head + k.script.split(head)[1] for k in self.kernels]
        self.text = self.change(cuda_text("@I.ir_module\nclass Module:\n" + "".join(functions), 80))
        parameters = {k.entry: [str(row[1]) for row in k.facts["parameters"]] for k in self.kernels}
        self._code = Code(self.text, parameters, self.folder)

    def launch(
        self, name: str, arrays: Mapping[str, np.ndarray], batch: int, iterations: int | None = None,
        blocks: int = 2, order: int = 0,
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:  # fmt: skip
        """The outputs of a batch by name, and the stamps of each block. `arrays` are the inputs of the whole batch."""
        own = next(k for k in self.kernels if k.name == name)
        program, form = own.program, own.facts["forms"][0]
        count = program.iterations if iterations is None else iterations
        values = [
            _argument(own, kind, number, arrays, (batch, count, blocks))
            for _, _, kind, *number in own.facts["parameters"]
        ]
        words = [v.ctypes.data if isinstance(v, np.ndarray) else v for v in values]
        shape = blocks, form["threads"], form["shared_bytes"], form["cooperative"]
        self._code.launch(own.entry, words, *shape, order)
        outputs = {}
        for (_, _, kind, *number), value in zip(own.facts["parameters"], values, strict=True):
            if isinstance(value, np.ndarray):
                assert (value[-_GUARD:].view(np.uint8) == 0xA5).all(), f"{kind} {number}: written beyond its end"
            if kind == "output":
                facts = program.buffers[program.outputs[number[0]]]
                outputs[facts.name] = value[:-_GUARD].view(facts.dtype).reshape(-1, *facts.shape)
        return outputs, values[-1][:-_GUARD].reshape(blocks, -1)


def _argument(
    own: Kernel, kind: str, number: Sequence[int], arrays: Mapping[str, np.ndarray], counts: tuple[int, int, int]
) -> Any:
    """A number, or an array with a guard behind it."""
    program, form = own.program, own.facts["forms"][0]
    batch, iterations, blocks = counts
    match kind:
        case "input":
            return _guarded(arrays[program.inputs[number[0]]])
        case "output":
            facts = program.buffers[program.outputs[number[0]]]
            problems = batch if own.ports[1][number[0]].batched else 1
            return _guarded(np.zeros((problems, *facts.shape), facts.dtype))
        case "weights":
            dtype, size, entries = own.facts["weights"][number[0]]
            array = _guarded(np.zeros(size, dtype))
            for constant, first in entries:
                plain = _plain(program.constants[constant])
                array[first : first + plain.size] = plain
            return array
        case "workspace":
            return _guarded(np.zeros(form["workspace_bytes"] * (1 if form["cooperative"] else blocks), np.uint8))
        case "ticks":
            return _guarded(np.zeros(blocks * own.facts["stamps_per_block"], np.int64))
    return {"batch": batch, "iterations": iterations}[kind]


def _plain(array: np.ndarray) -> np.ndarray:
    """The elements in a row; truth values are bytes."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8) if flat.dtype == bool else flat


def _guarded(array: np.ndarray) -> np.ndarray:
    flat = _plain(array)
    behind = np.full(_GUARD * flat.itemsize, 0xA5, np.uint8).view(flat.dtype)
    return np.concatenate([flat, behind])
