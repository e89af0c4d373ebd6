"""Builds ONNX models of any operators, and runs them whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

M, N, BATCH = 4, 6, 3


def random(name: str, *shape: int, scale: float = 0.3) -> np.ndarray:
    """Numbers that depend on the name alone, so that models of different K share their first iterations."""
    return np.asarray(np.random.default_rng(list(name.encode())).standard_normal(shape) * scale)


class OpaqueGraph:
    """Collects nodes of any domain, with any number of results; `k` is the iteration that they belong to."""

    def __init__(self, dtype: str = "float32", named: bool = True) -> None:
        self.dtype, self.named = dtype, named
        self.k: int | None = None
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.functions: list[onnx.FunctionProto] = []
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs = [helper.make_tensor_value_info("y", element, ["batch", M])]

    def __call__(self, operator: str, *inputs: str, results: int = 1, domain: str = "", **attributes: Any) -> Any:
        number = len(self.nodes)
        outputs = [f"v{number}" if results == 1 else f"v{number}.{i}" for i in range(results)]
        prefix = f"iteration.{self.k}/" if self.named and self.k is not None else ""
        name = f"{prefix}{operator}_{number}"
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs[0] if results == 1 else outputs

    def weight(self, name: str, value: Any, dtype: str | None = None) -> str:
        """A constant."""
        self.weights[name] = np.asarray(value, dtype or self.dtype)
        return name

    def start(self) -> str:
        """b = y W1, which all of them begin with."""
        return str(self("MatMul", "y", self.weight("W1", random("W1", M, N))))

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The model; nothing is said of its outputs' types."""
        tensors = [numpy_helper.from_array(v, n) for n, v in self.weights.items()]
        infos = [helper.make_empty_tensor_value_info(o) for o in outputs]
        graph = helper.make_graph(self.nodes, "solver", self.inputs, infos, tensors)
        sets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("own", 1)]
        return helper.make_model(graph, functions=self.functions, opset_imports=sets, ir_version=10)


def problems(dtype: Any = np.float32, batch: int = BATCH) -> dict[str, np.ndarray]:
    """Inputs for a batch."""
    return {"y": random("y", batch, M, scale=1.0).astype(dtype)}


def answers(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of the whole model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return list(session.run(None, dict(inputs)))
