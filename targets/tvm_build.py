"""TIR of an artifact -> an object file, by the LLVM inside TVM, for this computer or for a device's core."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unfoldc.errors import ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.kernels.printers.tvm import IN_ORDER
from unfoldc.targets.description import Core
from unfoldc.targets.host_build import build_library
from unfoldc.targets.toolchains import Progress, build_folder, publish
from unfoldc.targets.tvm_script import read_script

# The same freedoms as the C compiler gets: sums may be reordered and contracted, NaN and Inf keep their meaning. And,
# as there, no straight-line code is packed into vectors.
_OPTIONS: Mapping[str, Any] = {
    "kind": "llvm",
    "opt-level": 3,
    "cl-opt": ["-vectorize-slp:bool=false"],
    **{f"fast-math-{flag}": True for flag in ("contract", "nsz")},
}
# Arm's Helium, where LLVM 22 turns some comparisons of vectors over, so that NaN is lost. The C back end has a way
# around it (`printers/c/vector_comparisons.py`) that TIR has not.
_HELIUM = "+mve.fp"
# LLVM would use only half of a 512-bit register unless told.
_WIDE: Mapping[str, Any] = {"mattr": ["-prefer-256-bit"]} if platform.machine() in ("x86_64", "AMD64") else {}
# Bits of the widest register of a core without vectors: TVM warns where it has to guess.
_REGISTER_BITS = 64


def build_tvm_library(
    artifact: Artifact, folder: Path, *, flags: Sequence[str] = (), progress: Progress | None = None
) -> Path:
    """Compile the TIR and the C sources of `artifact`, link them, and return `<folder>/<symbol>.so`.

    `flags` go to the C compiler. Raises `ToolError` where TVM or the C compiler is missing or refuses.
    """
    with tempfile.TemporaryDirectory(prefix="unfoldc-") as scratch:
        objects = build_objects(artifact, Path(scratch))
        return build_library(artifact, folder, objects=objects, flags=flags, progress=progress)


def build_objects(artifact: Artifact, folder: Path, core: Core | None = None) -> list[Path]:
    """Compile `<symbol>.tir` into `<folder>/<symbol>_tir_<i>.o`: functions with a plain C interface.

    They are for `core`, or for this computer. They leave undefined at most what a C compiler's run-time library has:
    memset, memcpy, arithmetic in software, exp and the like. The script is executed as it is read, so it is to be
    trusted like any other code. Raises `ToolError`.
    """
    purpose = f"building {artifact.symbol} with TVM"
    try:
        import tvm  # noqa: F401
    except ImportError as error:
        raise ToolError(
            where=purpose,
            found=f"TVM cannot be imported ({error})",
            allowed="apache-tvm 0.27 from PyPI, which brings its own LLVM",
            do="Run `python -m pip install apache-tvm`, or compile with backend='c'.",
        ) from None
    if core is None and artifact.target.name != "host":
        raise ToolError(
            where=purpose,
            found=f"the target {artifact.target.name} without its core",
            allowed="artifacts for the host, or a core to build for",
            do="Pass core=find_target(name).core.",
        )
    with build_folder(folder, {}) as temporary:
        try:
            modules = compile_modules(artifact.sources[f"{artifact.symbol}.tir"], core)
            names = [f"{artifact.symbol}_tir_{i}.o" for i in range(len(modules))]
            for name, module in zip(names, modules, strict=True):
                module.write_to_file(str(temporary / name))
        except Exception as error:  # TVM raises many kinds, each with a long trace of its own
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise ToolError(
                where=purpose,
                found=f"TVM refuses {artifact.symbol}.tir: {lines[0]}",
                allowed="TIR printed by this version of unfoldc, and apache-tvm 0.27",
                do="Compile the model again; if it stays, use backend='c'.",
            ) from error
        return [publish(temporary / name, folder / name) for name in names]


def _keys(core: Core | None, in_order: bool) -> dict[str, Any]:
    """The keys of TVM's target; sums are reordered unless they are to stay `in_order`."""
    options = {**_OPTIONS, **({} if in_order else {"fast-math-reassoc": True})}
    if core is None:
        from tvm.target import codegen

        return {**options, "mcpu": codegen.llvm_get_system_cpu(), **_WIDE}
    given = {key: value for key, value in core.tvm.items() if value}
    if _HELIUM in given.get("mattr", ()):
        given["mattr"] = [f for f in given["mattr"] if f != _HELIUM] + ["-mve.fp", "-mve"]
    width = {} if core.architecture == "aarch64" else {"vector-width": _REGISTER_BITS}
    return {**options, **width, **given}


def compile_modules(script: str, core: Core | None) -> list[Any]:
    """Modules of the functions in the script: of those that say that sums are in order already, and of the others.

    The steps are those of TVM's own pipeline without its calling convention, and without StmtSimplify, which treats
    floats like real numbers: x - x becomes 0 and `not (x < y)` becomes y <= x, also where x is NaN; and without
    CommonSubexprElim, which gives indices of vectors a name, so that vectors are read and written element by element.
    """
    import tvm
    from tvm import s_tir, tirx

    whole = read_script(script)
    modules = []
    for in_order in (False, True):
        functions = {v: f for v, f in whole.functions.items() if bool((f.attrs or {}).get(IN_ORDER)) == in_order}
        if not functions:
            continue
        target = tvm.target.Target(_keys(core, in_order))
        steps = [
            tirx.transform.BindTarget(target.with_host(target)),
            s_tir.transform.UnifyThreadBinding(),
            *([] if in_order else [tirx.transform.FlattenBuffer()]),
            tirx.transform.NarrowDataType(32),
            tirx.transform.VectorizeLoop(True),
            tirx.transform.UnrollLoop(),
            tirx.transform.LowerIntrin(),
        ]
        module = tvm.ir.transform.Sequential(steps)(tvm.IRModule(functions))
        modules.append(tvm.get_global_func(f"target.build.{target.kind.name}")(module, target))
    return modules
