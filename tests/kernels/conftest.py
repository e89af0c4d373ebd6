"""Small unfolded solvers as ONNX models, made by hand so that each pass meets the case that it was written for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from unfoldc.kernels.reading.from_onnx import ImportedModel, import_onnx

M, N = 4, 6
BATCH = 3
TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "int64": TensorProto.INT64}


def random(name: str, *shape: int, scale: float = 0.3) -> np.ndarray:
    """Numbers that depend on the name alone, so that models of different K share their first layers."""
    rng = np.random.default_rng(list(name.encode()))
    return np.asarray(rng.standard_normal(shape) * scale)


class Graph:
    """Collects nodes. `k` is the iteration that new nodes belong to, None outside; `style` is how the model says so."""

    def __init__(self, dtype: str = "float32", style: str = "names", opset: int = 18) -> None:
        self.dtype, self.style, self.opset = dtype, style, opset
        self.k: int | None = None
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.inputs: list[onnx.ValueInfoProto] = []

    random = staticmethod(random)

    def input(self, name: str, *shape: int | str, dtype: str | None = None) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TYPES[dtype or self.dtype], shape))
        return name

    def weight(self, name: str, value: Any, dtype: str | None = None) -> str:
        array = np.asarray(value, dtype or self.dtype)
        assert name not in self.weights or np.array_equal(self.weights[name], array)
        self.weights[name] = array
        return name

    def __call__(self, operator: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        number = len(self.nodes)
        out = out or f"v{number}"
        name = f"{operator}_{number}"
        if self.style == "names":
            name = (f"iteration.{self.k}/" if self.k is not None else "") + name
        node = helper.make_node(operator, inputs, [out], name=name, **attributes)
        if self.style == "scopes":
            entry = node.metadata_props.add()
            entry.key = "pkg.torch.onnx.name_scopes"
            entry.value = str(["", *([f"its.{self.k}"] if self.k is not None else []), operator.lower()])
        self.nodes.append(node)
        return out

    def model(self, *outputs: str, metadata: str = "") -> onnx.ModelProto:
        """The model, without what the outputs do not need, as exporters write it."""
        needed, kept = set(outputs), []
        for node in reversed(self.nodes):
            if node.output[0] in needed:
                needed.update(node.input)
                kept.append(node)
        tensors = [numpy_helper.from_array(v, n) for n, v in self.weights.items() if n in needed]
        infos = [helper.make_empty_tensor_value_info(name) for name in outputs]
        for info in infos:
            info.type.tensor_type.elem_type = TYPES[self.dtype]
        graph = helper.make_graph(kept[::-1], "solver", self.inputs, infos, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)
        if metadata:
            entry = model.metadata_props.add()
            entry.key, entry.value = "unfoldc", metadata
        return model

    def soft(self, x: str, threshold: str) -> str:
        """Soft thresholding."""
        return self("Mul", self("Sign", x), self("Relu", self("Sub", self("Abs", x), threshold)))

    def layer(self, x: str, y: str, w1: str, w2: str, theta: str) -> str:
        return self.soft(self("Add", self("MatMul", x, w2), self("MatMul", y, w1)), theta)

    def zeros(self, y: str, n: int = N) -> str:
        """Zeros with as many rows as y, as torch exports them."""
        rows = self("Slice", self("Shape", y), self.weight("0", [0], "int64"), self.weight("1", [1], "int64"))
        shape = self("Concat", rows, self.weight("n", [n], "int64"), axis=0)
        return self("Expand", self.weight("zero", 0.0), shape)

    def first_weights(self) -> tuple[str, str, str]:
        w1, w2 = self.weight("W1", random("W1", M, N)), self.weight("W2", random("W2", N, N))
        return w1, w2, self.weight("theta", 0.05)


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Maker = Callable[[Graph, int], onnx.ModelProto]
_FILES = [_load("models_that_roll"), _load("models_that_differ")]
MAKERS: dict[str, Maker] = {
    name: maker
    for file in _FILES
    for name, maker in vars(file).items()
    if isinstance(maker, FunctionType) and not name.startswith("_")
}
EXPECTED: dict[str, tuple[int, bool]] = dict.fromkeys(MAKERS, (1, True)) | _FILES[1].EXPECTED
GRAPHS: dict[str, dict[str, Any]] = {
    "float64": {"dtype": "float64"},
    "scopes": {"style": "scopes"},
    "no_boundaries": {"style": "none"},
}


def make(name: str, K: int) -> onnx.ModelProto:
    """The model of that name with K iterations."""
    return MAKERS[name](Graph(**GRAPHS.get(name, {})), K)


@dataclass(frozen=True)
class Case:
    """A model for any K, and what is to be expected of it at K = 4."""

    name: str
    segments: int
    stops: bool

    def make(self, K: int) -> onnx.ModelProto:
        """The model with K iterations."""
        return make(self.name, K)

    def problems(self, count: int = BATCH) -> dict[str, np.ndarray]:
        """Inputs for a batch of problems."""
        return feeds(self.make(1), count)


def feeds(model: onnx.ModelProto, count: int) -> dict[str, np.ndarray]:
    """Random inputs; lengths that are not given are `count`."""
    result = {}
    names = {v: k for k, v in TYPES.items()}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        shape = [d.dim_value or count for d in tensor.shape.dim]
        result[value.name] = np.asarray(random(value.name, *shape, scale=1.0), names[tensor.elem_type])
    return result


def single(inputs: Mapping[str, np.ndarray], model: ImportedModel, item: int) -> dict[str, np.ndarray]:
    """One problem of a batch, in the shapes of the program."""
    types = model.program.types
    return {
        p.name: (inputs[p.name][item] if p.batched else inputs[p.name]).reshape(types[p.name].shape)
        for p in model.inputs
    }


def run_onnx(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    used = {i.name for i in session.get_inputs()}
    return dict(zip(names, session.run(names, {k: v for k, v in inputs.items() if k in used}), strict=True))


def close(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], limit: float = 1e-5) -> None:
    """Asserts that arrays agree, relative to the largest element of the wanted one."""
    assert len(found) == len(wanted)
    for f, w in zip(found, wanted, strict=True):
        scale = max(1.0, float(np.abs(w).max(initial=0)))
        assert f.size == w.size
        assert np.abs(f.reshape(w.shape) - w).max(initial=0) <= limit * scale


class Workshop:
    """What tests of several modules need; the fixture `workshop` hands it out."""

    Graph, random, single = Graph, staticmethod(random), staticmethod(single)
    feeds, run_onnx, close = staticmethod(feeds), staticmethod(run_onnx), staticmethod(close)
    make = staticmethod(make)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved = cache(self._saved)

    def save(self, model: onnx.ModelProto, name: str = "model.onnx") -> Path:
        path = self.folder / name
        path.write_bytes(model.SerializeToString())
        return path

    def _saved(self, name: str, K: int) -> Path:
        return self.save(make(name, K), f"{name}.{K}.onnx")

    def imported(self, model: onnx.ModelProto, **options: Any) -> ImportedModel:
        return import_onnx(self.save(model), **options)

    def case(self, name: str) -> Case:
        return Case(name, *EXPECTED[name])


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=sorted(MAKERS))
def solver(request: pytest.FixtureRequest, workshop: Workshop) -> Case:
    """Every model in turn."""
    return workshop.case(request.param)
