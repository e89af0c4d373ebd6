from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from unfoldc.errors import ExportError, InputError
from unfoldc.export import export_onnx
from unfoldc.export.evaluation import check_weights, evaluation
from unfoldc.export.examples import read_examples
from unfoldc.export.outputs import choose_output_names, flatten


class Net(nn.Module):
    def forward(self, y: torch.Tensor, H: torch.Tensor) -> torch.Tensor:
        return y @ H


def examples(*tensors: torch.Tensor, batch: str = "dynamic", **options: Any) -> Any:
    return read_examples(Net(), tensors, batch, options.get("batch_inputs"), options.get("input_names"))


def test_inputs_as_long_as_the_first_have_the_batch() -> None:
    found = examples(torch.ones(3, 5), torch.ones(5, 8))
    assert found.names == ("y", "H")
    assert found.batched == (True, False)
    assert found.batch == 3


def test_the_user_may_say_which_inputs_have_the_batch() -> None:
    assert examples(torch.ones(5, 5), torch.ones(5, 8), batch_inputs=["y"]).batched == (True, False)
    assert examples(torch.ones(5, 5), torch.ones(5, 8), batch_inputs=[1]).batched == (False, True)


def test_a_batch_of_one_is_doubled_and_can_be_resized() -> None:
    found = examples(torch.arange(5.0)[None], torch.ones(5, 8))
    assert found.batch == 2
    assert [t.shape[0] for t in found.tensors] == [2, 5]
    y, H = found.resized(3)
    assert y.tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0]] * 3
    assert H.shape == (5, 8)


def test_a_fixed_batch_leaves_the_example_as_it_is() -> None:
    found = examples(torch.ones(1, 5), torch.ones(5, 8), batch="fixed")
    assert found.batch is None
    assert found.resized(7)[0].shape == (1, 5)


def test_names_of_inputs() -> None:
    assert examples(torch.ones(3, 5), torch.ones(5, 8), input_names=["a", "b"]).names == ("a", "b")

    class Variadic(nn.Module):
        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            return tensors[0]

    assert read_examples(Variadic(), [torch.ones(2)] * 2, "fixed", None, None).names == ("input0", "input1")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("y", "a str"),
        ([], "a list"),
        ([1.0], "a list that is not all tensors"),
        ({"y": torch.ones(2)}, "a dict"),
    ],
)
def test_example_inputs_that_are_no_tensors(given: Any, found: str) -> None:
    with pytest.raises(InputError, match=f"example_inputs: {found}"):
        read_examples(Net(), given, "dynamic", None, None)


@pytest.mark.parametrize("names", [["y"], ["y", "y"], ["y", ""], "yH", ["y", "\n"]])
def test_input_names_that_do_not_fit(names: Any) -> None:
    with pytest.raises(InputError, match="2 distinct names"):
        examples(torch.ones(3, 5), torch.ones(5, 8), input_names=names)


@pytest.mark.parametrize(
    ("tensors", "options", "message"),
    [
        ((torch.ones(3, 5), torch.ones(5, 8)), {"batch": "any"}, "batch: 'any'; allowed: 'dynamic' or 'fixed'"),
        ((torch.ones(3, 5), torch.ones(5, 8)), {"batch_inputs": ["z"]}, "batch_inputs: 'z'"),
        ((torch.ones(3, 5), torch.ones(5, 8)), {"batch_inputs": []}, "batch_inputs: no input at all"),
        ((torch.ones(3, 5), torch.ones(5, 8)), {"batch_inputs": [0, 1]}, "of one size"),
        ((torch.tensor(1.0), torch.ones(5, 8)), {}, "pass batch='fixed'"),
        ((torch.ones(0, 5), torch.ones(5, 8)), {}, "not empty"),
    ],
)
def test_a_batch_that_does_not_fit(tensors: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        examples(*tensors, **options)


def test_names_of_outputs() -> None:
    one = torch.ones(1)
    assert choose_output_names(one, ["y"], None) == ("x",)
    assert choose_output_names((one, one), ["y"], None) == ("output0", "output1")
    assert choose_output_names({"a": one, "y": one}, ["y"], None) == ("a", "y_out")
    assert choose_output_names(torch.return_types.max((one, one)), ["y"], ["m", "i"]) == ("m", "i")
    with pytest.raises(InputError, match="'y' for an input and an output"):
        choose_output_names(one, ["y"], ["y"])
    with pytest.raises(InputError, match="1 distinct names"):
        choose_output_names(one, ["y"], ["a", "b"])


def test_answers_are_flattened_and_must_be_tensors() -> None:
    a, b = torch.ones(1), torch.zeros(1)
    assert flatten((a, {"b": b}, [a])) == [a, b, a]
    with pytest.raises(ExportError, match="it returns a NoneType"):
        flatten((a, None))


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "buffer"), (float("inf"), "parameter")])
def test_weights_that_are_not_finite(value: float, kind: str) -> None:
    module: Any = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    tensor = module[0].weight.data if kind == "parameter" else module[1].running_mean
    tensor.view(-1)[0] = value
    name = "0.weight: 1 of 4" if kind == "parameter" else "1.running_mean: 1 of 2"
    with pytest.raises(ExportError, match=f"{name} elements of this {kind} are NaN or infinite"):
        check_weights(module)


def test_a_buffer_may_hold_an_infinite_bound() -> None:
    module = nn.Module()
    module.register_buffer("bound", torch.tensor(float("inf")))
    check_weights(module)


def test_evaluation_puts_modes_and_random_numbers_back() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    module[0].eval()
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    with pytest.raises(KeyError), evaluation(module):
        assert not module.training
        assert not torch.is_grad_enabled()
        torch.rand(5)
        raise KeyError
    assert (module.training, module[0].training, module[1].training) == (True, False, True)
    assert torch.is_grad_enabled()
    assert torch.equal(torch.rand(1), wanted)


@pytest.mark.parametrize(("path", "opset"), [("missing/a.onnx", 20), (".", 20), ("a.onnx", 17), ("a.onnx", 99)])
def test_where_to_write_and_which_opset(tmp_path: Path, path: str, opset: int) -> None:
    with pytest.raises(InputError, match="no folder|a folder|opset: (17|99); allowed: 18 to"):
        export_onnx(Net(), torch.ones(2, 2), tmp_path / path, opset=opset)


def test_something_that_is_no_module(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="module: a function"):
        export_onnx(lambda y: y, torch.ones(2, 2), tmp_path / "a.onnx")  # type: ignore[arg-type]


def test_matrix_and_number_as_inputs_in_double_precision(solvers: ModuleType, tmp_path: Path) -> None:
    module = solvers.WithMatrix().double()
    inputs = tuple(t.double() for t in (torch.randn(5, 5), torch.randn(5, 8), torch.tensor(0.1)))
    report = export_onnx(module, inputs, tmp_path / "a.onnx", batch_inputs=["y"], iterates=True)
    assert dict(report.inputs) == {"y": "float64[batch, 5]", "H": "float64[5, 8]", "rho": "float64[]"}
    assert list(report.outputs) == ["x", "residual", "y_out"]
    assert report.iterates == {o: tuple(f"{o}.iterate.{k}" for k in range(3)) for o in ("x", "residual")}
    assert report.error is not None and report.error < 1e-12
    assert all(t.data_type != onnx.TensorProto.FLOAT for t in onnx.load(tmp_path / "a.onnx").graph.initializer)


def test_a_fixed_batch_keeps_the_shapes_of_the_example(solvers: ModuleType, tmp_path: Path) -> None:
    report = export_onnx(solvers.Lista(2), torch.randn(1, 5), tmp_path / "a.onnx", batch="fixed", opset=18)
    assert report.inputs == {"y": "float32[1, 5]"}
    assert onnx.load(tmp_path / "a.onnx").opset_import[0].version == 18
