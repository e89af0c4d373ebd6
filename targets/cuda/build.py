"""Kernels printed for numba-cuda or TVM -> machine code for GPUs, with the assembler's report; a GPU is not needed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from unfoldc.errors import ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.cuda.packages import INSTALL, in_simulator
from unfoldc.targets.cuda.report import parse_report
from unfoldc.targets.toolchains import Progress, build_folder, finished, publish

ARCHITECTURES = (80, 90)
"""Compute capabilities, times ten, that every build is for; code for 80 runs on 8.0 to 8.9, for 90 on 9.0."""
REPORT_FORMAT = 1
_CUDA_C = "kernels.cu"  # what TVM makes
_SCRIPT = Path(__file__).with_name("compile_kernels.py")
_TVM_SCRIPT = Path(__file__).with_name("compile_tvm.py")


_ASKED = {
    "cuda": ("numba-cuda with NVVM and nvJitLink", INSTALL),
    "tvm": ("apache-tvm 0.27, NVRTC and nvJitLink", 'python -m pip install "unfoldc[cuda,tvm]"'),
}
"""What each back end compiles with, and how that is installed."""


def build_cubins(
    artifact: Artifact,
    folder: Path,
    *,
    also: Iterable[int] = (),
    progress: Progress | None = None,
    timeout: float = 600.0,
) -> Path:
    """Compile the kernels of `artifact`; `<symbol>_report.json` in `folder`, which names a cubin for each architecture.

    `also`: architectures beside `ARCHITECTURES`, that of the GPU at hand for instance. In numba's simulator nothing is
    compiled and the report names no cubin. `timeout` in seconds. Raises `ToolError`.
    """
    purpose = f"building {artifact.symbol} for NVIDIA GPUs"
    texts = _texts(artifact, purpose)
    simulator = in_simulator() and artifact.backend != "tvm"  # it is Numba's
    report: dict[str, Any] = {"format": REPORT_FORMAT, "simulator": simulator, "architectures": {}}
    with build_folder(folder, texts) as temporary:
        if not report["simulator"]:
            wanted = sorted({*ARCHITECTURES, *also})
            _compile(artifact.backend, list(texts), temporary, wanted, purpose, progress, timeout)
            if (temporary / _CUDA_C).exists():
                publish(temporary / _CUDA_C, folder / f"{artifact.symbol}.cu")
            report |= json.loads((temporary / "compiled.json").read_text(encoding="utf-8"))
            for architecture in wanted:
                name = f"sm_{architecture}"
                report["architectures"][name] = _product(artifact, temporary, folder, name)
        file = temporary / f"{artifact.symbol}_report.json"
        file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        return publish(file, folder / file.name)


def _texts(artifact: Artifact, purpose: str) -> dict[str, str]:
    made = (".tir", ".cuh") if artifact.backend == "tvm" else (".py",)
    names = tuple(f"{artifact.symbol}{end}" for end in (*made, "_launch.json"))
    lacking = [name for name in names if name not in artifact.sources]
    if lacking:
        raise ToolError(
            where=purpose,
            found=f"the back end '{artifact.backend}' made no {lacking[0]}",
            allowed="artifacts with CUDA kernels",
            do="Compile with backend='cuda', or with target='cuda' and backend='tvm'.",
        )
    return {name: artifact.sources[name] for name in names}


def _product(artifact: Artifact, temporary: Path, folder: Path, name: str) -> dict[str, Any]:
    """Publish one cubin; what the report says of it."""
    image = (temporary / f"{name}.cubin").read_bytes()
    final = f"{artifact.symbol}.{name}.cubin"
    publish(temporary / f"{name}.cubin", folder / final)
    kernels = parse_report((temporary / f"{name}.txt").read_text(encoding="utf-8"))
    return {
        "file": final,
        "sha256": sha256(image).hexdigest(),
        "bytes": len(image),
        "kernels": {kernel: found.to_dict() for kernel, found in kernels.items()},
    }


def _compile(
    backend: str,
    names: list[str],
    folder: Path,
    architectures: list[int],
    purpose: str,
    progress: Progress | None,
    timeout: float,
) -> None:
    """Run the compiler in a process of its own: numba reads its settings when it is imported."""
    script = _TVM_SCRIPT if backend == "tvm" else _SCRIPT
    command = [sys.executable, "-P", str(script), *names, ".", *map(str, architectures)]
    if progress:
        progress(f"{purpose} ({', '.join(f'sm_{a}' for a in architectures)})")
    done = finished(command, folder, _environment(), purpose, timeout, "the compiler")
    if done.returncode:
        raise _failure(backend, purpose, done.stderr, done.returncode)


def _environment() -> dict[str, str]:
    """This process's environment without numba's settings; libnvvm of a CUDA toolkit is found by its compiler."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    nvcc = shutil.which("nvcc")
    if nvcc and not {"CUDA_HOME", "CUDA_PATH"} & kept.keys():
        kept["CUDA_HOME"] = str(Path(nvcc).resolve().parent.parent)
    return kept


def _message(output: str) -> str:
    """What an exception says, whose text may take several lines, on one."""
    lines = [line for line in output.splitlines() if line.strip()]
    frames = [i for i, line in enumerate(lines) if line.startswith("  ")]
    said = lines[frames[-1] + 1 :] if frames else lines[-1:]
    return " ".join(line.strip() for line in said)[:300]


def _failure(backend: str, purpose: str, output: str, status: int) -> ToolError:
    last = _message(output) or f"exit status {status}, no message"
    parts, install = _ASKED[backend]
    if "nsupported .version" in output:
        found = f"{parts.split(' with ')[-1]} are of different versions ({last})"
        return ToolError(purpose, found, "packages of one CUDA version", f"Update them: {install}.")
    if "ModuleNotFoundError" in output or "DynamicLibNotFoundError" in output or "NvvmSupportError" in output:
        return ToolError(
            purpose, f"a part of the compiler is not installed ({last})", parts, f"Run `{install}`.",
        )  # fmt: skip
    return ToolError(
        purpose, f"the compiler stopped: {last}", "kernels as this version of unfoldc prints them",
        "Please report this with the model; backend='c' runs it on the processor.",
    )  # fmt: skip
