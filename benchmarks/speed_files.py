"""The ONNX files of a graph, in the forms that the peers take; kept in build/speed until the sources change."""

from __future__ import annotations

import hashlib
import inspect
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from speed_cases import find_graph
from speed_cases.base import Graph, Unrolled

import unfoldc
from unfoldc.export.trace import quiet

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "speed"


def files_of(name: str, batch: int) -> tuple[dict[str, Path], dict[str, str]]:
    """Paths by form (see `speed_peers.base.Task`), and why a form is missing."""
    graph = find_graph(name)
    folder = FOLDER / f"{name}-{sources_of(graph)}"
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for form, export in (("ours", export_ours), ("plain", export_plain)):
        whole = folder / (f"{form}.onnx" if graph.dynamic else f"{form}-{batch}.onnx")
        try:
            if not whole.is_file():
                export(graph, batch, whole)
        except Exception as problem:
            missing[form] = f"{type(problem).__name__}: {str(problem).strip().splitlines()[0]}"
            continue
        files["dynamic" if form == "ours" else "plain-dynamic"] = whole
        fixed = once(folder / f"{form}-{batch}.onnx", lambda p, w=whole: _fix(w, batch, p))
        end = "" if form == "ours" else "-plain"
        folded = once(folder / f"{form}-{batch}-folded.onnx", lambda p, f=fixed: fold(f, p))
        files |= {form: fixed, f"folded{end}": folded}
    alone = files if batch == 1 else files_of(name, 1)[0]
    single = {f"single{end}": alone[f"folded{end}"] for end in ("", "-plain") if f"folded{end}" in alone}
    return {**files, **single}, missing


def export_ours(graph: Graph, batch: int, path: Path) -> None:
    """Our exporter's file."""
    unfoldc.export_onnx(
        graph.module(), graph.example(3 if graph.dynamic else batch), path, iterations=graph.layers,
        batch="dynamic" if graph.dynamic else "fixed", opset=graph.opset, check=False,
    )  # fmt: skip


def export_plain(graph: Graph, batch: int, path: Path) -> None:
    """The file of `torch.onnx.export` as it is."""
    example = graph.example(3 if graph.dynamic else batch)
    shapes: Any = tuple({0: torch.export.Dim("batch")} for _ in example) if graph.dynamic else None
    if shapes and isinstance(graph.module(plain=True), Unrolled):
        shapes = (shapes,)  # its forward takes *inputs
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.module(plain=True), example, path, dynamo=True, opset_version=graph.opset, dynamic_shapes=shapes,
            verbose=False, external_data=False,
        )  # fmt: skip


def once(path: Path, make) -> Path:  # type: ignore[no-untyped-def]
    """The path, where `make` has written unless it was there."""
    if not path.is_file():
        aside = path.with_suffix(".partial.onnx")
        make(aside)
        aside.rename(path)
    return path


def _fix(whole: Path, batch: int, path: Path) -> None:
    """The batch as a number in the place of its name."""
    model = onnx.load(whole)
    for port in (*model.graph.input, *model.graph.output):
        for dim in port.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = batch
    del model.graph.value_info[:]
    onnx.save(model, path)


def fold(fixed: Path, path: Path) -> None:
    """ONNX Runtime's rewriting of the basic level: standard operators only, constants folded, functions inlined."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(fixed), options, providers=["CPUExecutionProvider"])
    model = onnx.load(path)
    used = {node.domain for node in model.graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


def sources_of(graph: Graph) -> str:
    """A digest of what the files depend on."""
    digest = hashlib.sha256(f"{torch.__version__} {onnx.__version__}".encode())
    here = Path(__file__)
    folders = (ROOT / "export", ROOT / "unfold_train")
    paths = sorted(path for folder in folders for path in folder.rglob("*.py"))
    own = [here.parent / "speed_cases" / "base.py", Path(inspect.getfile(graph.make))]
    for path in (*paths, *own, here):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
