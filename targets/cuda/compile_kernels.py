"""Compiles a module of kernels to machine code for GPUs: a program of its own, which imports nothing of unfoldc.

    python compile_kernels.py MODULE.py LAUNCH.json FOLDER ARCHITECTURE...

For each architecture (90: compute capability 9.0) it writes `sm_90.cubin` into the folder, and what the assembler says
of it to `sm_90.txt`; then `compiled.json` with the versions of what was used. Neither a driver nor a GPU is needed.
"""

from __future__ import annotations

import gc
import importlib.metadata
import inspect
import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

_ENTRY = re.compile(r"\.visible \.entry (\w+)\(")
_VERSION = re.compile(r"^\.version (\S+)", re.MULTILINE)
_TOOLS = ("numba-cuda", "numba", "cuda-bindings", "nvidia-nvvm", "nvidia-nvjitlink")
_ASSEMBLED = 4  # what a step may write of its own: nvJitLink's error log, cut


def main(module: str, launch: str, folder: str, *architectures: str) -> None:
    """Compile every kernel that the launch description names, for every architecture."""
    gc.disable()  # what numba makes is needed to the end, so there is hardly any garbage to look for
    facts = json.loads(Path(launch).read_text(encoding="utf-8"))
    namespace: dict[str, Any] = {"__name__": "unfoldc_kernels"}
    exec(compile(Path(module).read_text(encoding="utf-8"), Path(module).name, "exec"), namespace)
    wanted = sorted(map(int, architectures))
    # Numba takes most of the time. What it makes for the oldest is fit for the newer, whose own code nvJitLink makes.
    texts = {name: _ptx(namespace, name, threads, facts["parameters"], wanted[0]) for name, threads in kernels(facts)}
    assemble(texts, wanted, Path(folder), _TOOLS)


def assemble(texts: dict[str, str], architectures: list[int], folder: Path, tools: tuple[str, ...], *more: str) -> None:
    """Write the files that this program leaves, from PTX by name; `tools` made it, `more` are options for nvJitLink."""
    for architecture in architectures:
        image, log = _link(texts, architecture, *more)
        (folder / f"sm_{architecture}.cubin").write_bytes(image)
        (folder / f"sm_{architecture}.txt").write_text(log, encoding="utf-8")
    ptx_version = next((m[1] for text in texts.values() if (m := _VERSION.search(text))), "")
    found = {"tools": _versions(tools), "ptx_version": ptx_version}
    (folder / "compiled.json").write_text(json.dumps(found), encoding="utf-8")


def kernels(facts: dict[str, Any]) -> list[tuple[str, int]]:
    """The names of all kernels, each with the threads of its blocks."""
    found = {form["kernel"]: int(form["threads"]) for form in facts["forms"] if form["kernel"]}
    for form in facts["forms"]:
        if "list" in form:
            found |= dict.fromkeys(_listed(form["list"]), int(form["threads"]))
    return list(found.items())


def _listed(found: dict[str, Any]) -> list[str]:
    """The kernels of a list of launches."""
    launches = [*found["begin"], *(x for step in found["steps"] for x in step["launches"]), *found["end"]]
    return [x["kernel"] for x in launches if "kernel" in x]


def _ptx(namespace: dict[str, Any], name: str, threads: int, parameters: list[Any], architecture: int) -> str:
    """The kernel in NVIDIA's assembly language, under its own name."""
    cuda = import_module("numba.cuda")
    options = {**namespace.get("OPTIONS", {})}
    if "launch_bounds" in inspect.signature(cuda.compile).parameters:  # older versions leave it to the assembler
        options["launch_bounds"] = threads
    signature = tuple(_type(parameter[1]) for parameter in parameters)
    capability = divmod(architecture, 10)
    text, _ = cuda.compile(
        namespace[name], signature, cc=capability, device=False, output="ptx", abi="numba", **options
    )
    entry = _ENTRY.search(text)
    if entry is None:
        raise SystemExit(f"the compiler made no entry for the kernel {name}")
    return str(text.replace(entry[1], name))


def _type(name: str) -> Any:
    types = import_module("numba").types
    element = getattr(types, name.rstrip("*"))
    return types.CPointer(element) if name.endswith("*") else element


def _link(texts: dict[str, str], architecture: int, *more: str) -> tuple[bytes, str]:
    """All kernels in one image, and the assembler's report."""
    from cuda.bindings import nvjitlink

    options = [f"-arch=sm_{architecture}", "-O3", "-Xptxas=-v", *more]
    linker = nvjitlink.create(len(options), options)
    try:
        for name, text in texts.items():
            code = text.encode()
            nvjitlink.add_data(linker, nvjitlink.InputType.PTX, code, len(code), name)
        nvjitlink.complete(linker)
        image = bytearray(nvjitlink.get_linked_cubin_size(linker))
        nvjitlink.get_linked_cubin(linker, image)
        log = bytearray(nvjitlink.get_info_log_size(linker))
        nvjitlink.get_info_log(linker, log)
    except nvjitlink.nvJitLinkError as error:
        log = bytearray(nvjitlink.get_error_log_size(linker))
        nvjitlink.get_error_log(linker, log)
        said = log.decode(errors="replace").strip("\0 \n").splitlines()[:_ASSEMBLED]
        raise SystemExit(f"nvJitLink: {' '.join(said) or error}") from None
    finally:
        nvjitlink.destroy(linker)
    return bytes(image), log.decode(errors="replace").strip("\0 \n")


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
