"""One build of a model in a folder: its sources, its product, the model with its external data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unfoldc.external_data import copy_external, external_names
from unfoldc.request import Request
from unfoldc.runtime.artifact_folder import Build, write_build
from unfoldc.runtime.machine import processor
from unfoldc.runtime.products import make_product, with_notes

if TYPE_CHECKING:
    from unfoldc.kernels.artifact import Artifact

_MODEL = "model/model.onnx"  # in a folder of its own: its external data keep their names, which are not ours to choose


def build_one(request: Request, artifact: Artifact, folder: Path) -> Build:
    """Write and build what the compiler made."""
    names = external_names(request.path)
    model = _MODEL
    while Path(model).name in names:
        model = f"{Path(model).parent}/_{Path(model).name}"
    copy = folder / model
    copy.parent.mkdir()
    external = copy_external(names, request.path.parent, copy.parent)
    copy.write_bytes(request.model)
    request.progress(f"building for {request.target_name}")
    product = make_product(artifact, request.target_name, request.target.kind, folder)
    artifact = with_notes(artifact, request.target_name, request.target.kind, folder / product)
    made = Build(
        artifact=artifact, folder=folder, target=request.target_name, kind=request.target.kind,
        product=product, processor=processor(), model=model,
        options={**request.options, **request.run}, external=external,
    )  # fmt: skip
    write_build(made)
    return made


def compiled(request: Request) -> Artifact:
    """What the compiler, or for ONNX Runtime the splitter, makes of the model."""
    if request.backend == "onnxruntime":
        from unfoldc.kernels.split_onnx.artifact import compile_split
        from unfoldc.runtime.onnxruntime_tools import split_tools

        artifact = compile_split(
            request.path, request.target.spec, request.symbol, **request.options, tools=split_tools()
        )
        return replace(artifact, notes={**artifact.notes, "fallback": request.note})
    from unfoldc.kernels.pipeline import compile_onnx

    return compile_onnx(
        request.path,
        request.target.spec,
        request.backend,
        symbol=request.symbol,
        sparse=request.sparse,
        allow_tf32=request.allow_tf32,
        **request.options,
    )
