"""Exports shared by the tests: tracing takes about a second, so each solver is exported once per run."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from unfoldc.export import ExportReport, export_onnx

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Exported:
    """A module, the report of its export, the file read back, and its metadata."""

    module: torch.nn.Module
    report: ExportReport
    model: onnx.ModelProto
    metadata: dict[str, Any]

    def part(self, name: str) -> list[onnx.NodeProto]:
        """Nodes of `begin`, `iteration.<k>` or `end`."""
        return [node for node in self.model.graph.node if node.name.startswith(f"{name}/")]

    def operators(self, name: str) -> list[str]:
        """Operators of a part, in order."""
        return [node.op_type for node in self.part(name)]

    def run(self, *inputs: torch.Tensor) -> dict[str, Array]:
        """All outputs by ONNX Runtime."""
        import onnxruntime

        session = onnxruntime.InferenceSession(str(self.report.path), providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_outputs()]
        feed = {v.name: t.numpy() for v, t in zip(session.get_inputs(), inputs, strict=True)}
        return dict(zip(names, session.run(None, feed), strict=True))


@pytest.fixture(scope="session", autouse=True)
def _one_registry() -> Iterator[None]:
    """The exporter reads its table of translations from sources at every call, a third of the time; here once."""
    from torch.onnx._internal.exporter import _registration

    apis: Any = _registration.onnxscript_apis  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apis, "get_torchlib_ops", functools.cache(apis.get_torchlib_ops))
        yield


@pytest.fixture(scope="session")
def solvers() -> ModuleType:
    path = Path(__file__).with_name("solvers.py")
    spec = importlib.util.spec_from_file_location("export_solvers", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Export = Callable[..., Exported]


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory, solvers: ModuleType) -> Export:
    """Export `solvers.<name>(*arguments)` with all iterates; asked for the same again, give the same."""
    folder = tmp_path_factory.mktemp("export")
    done: dict[tuple[Any, ...], Exported] = {}

    def run(name: str, *arguments: Any, **options: Any) -> Exported:
        key = (name, *arguments, *sorted(options.items()))
        if key not in done:
            torch.manual_seed(7)
            module = getattr(solvers, name)(*arguments)
            path = folder / f"{len(done)}.onnx"
            report = export_onnx(module, torch.randn(3, solvers.M), path, **{"iterates": True, **options})
            done[key] = read(module, report)
        return done[key]

    return run


def read(module: torch.nn.Module, report: ExportReport) -> Exported:
    model = onnx.load(report.path)
    entry = next(p.value for p in model.metadata_props if p.key == "unfoldc")
    return Exported(module, report, model, json.loads(entry))
