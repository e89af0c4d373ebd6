"""Compiles kernels in TVM's script to machine code for GPUs: a program of its own, which imports nothing of unfoldc.

    python compile_tvm.py SCRIPT.tir FUNCTIONS.cuh LAUNCH.json FOLDER ARCHITECTURE...

TVM makes CUDA C, NVIDIA's run-time compiler (NVRTC) PTX for the oldest architecture, and nvJitLink machine code for all
of them. What it writes is what `compile_kernels.py` writes, and the CUDA C as `kernels.cu`. The script is executed as
it is read, so it is to be trusted like any other code. Neither a driver nor a GPU is needed, nor headers of CUDA.
"""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

_FIRST = 'extern "C" __global__'
_TOOLS = ("apache-tvm", "cuda-bindings", "nvidia-cuda-nvrtc", "nvidia-nvjitlink")
_LONG = 300_000  # characters of PTX; with a few kernels that long ptxas at its best takes minutes and gigabytes
_MOST_LINES = 4  # of what a compiler says


def main(script: str, functions: str, launch: str, folder: str, *architectures: str) -> None:
    """Compile every kernel of the script, for every architecture."""
    facts = json.loads(Path(launch).read_text(encoding="utf-8"))
    linker = _neighbour("compile_kernels.py")
    wanted = sorted(map(int, architectures))
    text = Path(functions).read_text(encoding="utf-8") + cuda_text(Path(script).read_text(encoding="utf-8"), wanted[0])
    (Path(folder) / "kernels.cu").write_text(text, encoding="utf-8")
    ptx = _ptx(text, wanted[0])
    less = ("-Xptxas=-O1",) if len(ptx) > _LONG else ()
    lacking = [name for name, _ in linker.kernels(facts) if f".entry {name}(" not in ptx]
    if lacking:
        raise SystemExit(f"the compiler made no entry for the kernel {lacking[0]}")
    linker.assemble({"kernels": ptx}, wanted, Path(folder), _TOOLS, *less)


def cuda_text(script: str, architecture: int) -> str:
    """The kernels of a script in CUDA C, without the types and headers that TVM puts in front.

    The steps are those that turn TVM's representation into what its printer of CUDA C takes. Those that simplify treat
    floats like real numbers, and those that place barriers would put in others than the script has; all are left out.
    """
    import tvm
    from tvm import tirx

    target = tvm.target.Target({"kind": "cuda", "arch": f"sm_{architecture}"})
    steps = [
        tirx.transform.BindTarget(target.with_host(tvm.target.Target({"kind": "llvm"}))),
        tirx.transform.FlattenBuffer(),
        tirx.transform.LowerIntrin(),
    ]
    try:
        module = tvm.ir.transform.Sequential(steps)(tvm.script.from_source(script))
        text = str(tvm.get_global_func("target.build.cuda")(module, target).inspect_source("cuda"))
    except Exception as error:  # TVM raises many kinds, each with a long trace of its own
        said = [line.strip() for line in str(error).splitlines() if line.strip()][:_MOST_LINES]
        raise SystemExit(f"TVM: {' '.join(said) or type(error).__name__}") from error
    if _FIRST not in text:
        raise SystemExit("TVM made no kernels")
    return text[text.index(_FIRST) :]


def _ptx(text: str, architecture: int) -> str:
    """NVIDIA's assembly language; no arithmetic is reordered, products and sums may be one instruction."""
    from cuda.bindings import nvrtc

    options = [f"--gpu-architecture=compute_{architecture}", "--std=c++17", "--fmad=true"]
    program = _done(nvrtc.nvrtcCreateProgram(text.encode(), b"kernels.cu", 0, [], []))
    status, *_ = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    if int(status):
        log = bytes(_done(nvrtc.nvrtcGetProgramLogSize(program)))
        nvrtc.nvrtcGetProgramLog(program, log)
        said = log.decode(errors="replace").strip("\0 \n").splitlines()[:_MOST_LINES]
        raise SystemExit(f"NVRTC: {' '.join(said) or status.name}")
    ptx = bytes(_done(nvrtc.nvrtcGetPTXSize(program)))
    _done(nvrtc.nvrtcGetPTX(program, ptx))
    nvrtc.nvrtcDestroyProgram(program)
    return ptx.decode().strip("\0")


def _done(answer: tuple[Any, ...]) -> Any:
    """The value of a call of NVRTC's."""
    status, *values = answer
    if int(status):
        raise SystemExit(f"NVRTC: {status.name}")
    return values[0] if values else None


def _neighbour(name: str) -> ModuleType:
    """Another program beside this one."""
    spec = spec_from_file_location(Path(name).stem, Path(__file__).with_name(name))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(*sys.argv[1:])
