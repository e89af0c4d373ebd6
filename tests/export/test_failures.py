"""Modules that cannot be exported: each ends in one paragraph that says where, what, what to do; nothing is written."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from unfoldc.errors import ExportError, InputError
from unfoldc.export import export_onnx, iterate
from unfoldc.export.trace import quiet


def singular_values(net: Any, y: Tensor) -> Any:
    return torch.linalg.svd(net.A)[1] * y


def norm(net: Any, y: Tensor) -> Any:
    return y / torch.linalg.matrix_norm(net.A, 2)


def decision(net: Any, y: Tensor) -> Tensor:
    for layer in net.layers:
        y = layer(y)
        if y.norm() > 1:
            y = y / 2
    return y


def item(net: Any, y: Tensor) -> Tensor:
    return y * float(y.max())


def numpy_code(net: Any, y: Tensor) -> Tensor:
    return torch.from_numpy(y.numpy() * 2)


def shared(net: Any, y: Tensor) -> Tensor:
    for _ in range(5):
        y = torch.relu(net.linear(y))
    return y


def unmarked(net: Any, y: Tensor) -> Tensor:
    for _ in range(5):
        y = torch.relu(y @ net.A)
    return y


def two_lists(net: Any, y: Tensor) -> Tensor:
    for layer in (*net.layers, *net.others):
        y = layer(y)
    return y


def twice(net: Any, y: Tensor) -> Tensor:
    for layer in (*net.layers, *net.layers):
        y = layer(y)
    return y


def in_order(net: Any, y: Tensor) -> Tensor:
    for layer in net.layers:
        y = layer(y)
    return y


def fixed_batch(net: Any, y: Tensor) -> Tensor:
    return in_order(net, y) + torch.zeros(3, 1)


def unread_marker(net: Any, y: Tensor) -> Tensor:
    for _ in range(3):
        y = torch.relu(y @ net.A)
        iterate(y)
    return y


def random(net: Any, y: Tensor) -> Tensor:
    return in_order(net, y) + torch.randn(4)


def marked_twice(net: Any, y: Tensor) -> Tensor:
    for _ in range(2):
        y = iterate(torch.relu(y @ net.A))
    return y


def marked_number(net: Any, y: Tensor) -> Any:
    return iterate(3.0)  # type: ignore[arg-type]


def nothing(net: Any, y: Tensor) -> Any:
    return {"x": y, "steps": 3}


Fails = Callable[..., ExportError]


@pytest.fixture
def fails(solvers: ModuleType, tmp_path: Path) -> Fails:
    def run(forward: Any, **options: Any) -> ExportError:
        path = tmp_path / "a.onnx"
        path.write_text("an earlier file")
        y = options.pop("y", torch.rand(3, 4))
        with pytest.raises(ExportError) as caught:
            export_onnx(solvers.Calls(forward), y, path, **options)
        assert path.read_text() == "an earlier file"
        assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]
        assert "\n" not in str(caught.value)
        return caught.value

    return run


def test_singular_values_have_no_onnx_form(fails: Fails) -> None:
    error = fails(singular_values)
    assert error.where == "Calls"
    assert error.found == "`torch.linalg.svd` has no ONNX form"
    assert "unfoldc.approximate(model, {'svd': TruncatedSvd(...)})" in error.do


def test_a_norm_that_needs_a_singular_value_names_the_users_call(fails: Fails) -> None:
    error = fails(norm)
    assert "`torch.linalg.matrix_norm`" in error.found
    assert "store the result as a buffer" in error.do


def test_an_operator_without_onnx_form_inside_a_layer_names_the_layer(solvers: ModuleType, tmp_path: Path) -> None:
    class Orthogonal(torch.nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return input @ torch.linalg.qr(self.weight)[0]

    module = solvers.Calls(in_order)
    module.layers[1] = Orthogonal(4, 4)
    with pytest.raises(ExportError, match=r"^Calls\.layers\.1: `torch\.linalg\.qr` has no ONNX form"):
        export_onnx(module, torch.rand(3, 4), tmp_path / "a.onnx")


def test_a_decision_on_values_names_the_line(fails: Fails, capfd: pytest.CaptureFixture[str]) -> None:
    error = fails(decision)
    assert "depends on a tensor's elements" in error.found
    assert "test_failures.py:" in error.found and "`if y.norm() > 1:`" in error.found
    assert "torch.where" in error.do
    assert capfd.readouterr() == ("", "")


def test_a_python_number_from_a_tensor(fails: Fails) -> None:
    assert "depends on a tensor's elements" in fails(item).found


def test_code_that_torch_cannot_trace(fails: Fails) -> None:
    assert "torch.export stopped with RuntimeError: .numpy() is not supported" in fails(numpy_code).found


def test_a_shared_module_in_a_loop_needs_the_marker(fails: Fails) -> None:
    error = fails(shared)
    assert error.found == "no iterations: `linear` runs 5 times, which leaves nothing to tell its calls apart"
    assert "Write `x = unfoldc.iterate(x)`" in error.do


def test_a_plain_loop_needs_the_marker(fails: Fails) -> None:
    error = fails(unmarked)
    assert "no marker ran and no ModuleList" in error.found
    assert "unfoldc.iterate" in error.do


def test_two_lists_need_a_choice(fails: Fails) -> None:
    assert "`layers` (3 items), `others` (3 items)" in fails(two_lists).found
    assert "several lists" in fails(two_lists, iterations=3).found


def test_items_that_run_twice(fails: Fails) -> None:
    assert "its 3 items ran in the order 0, 1, 2, 0, 1, 2" in fails(twice, iterations="layers").found


@pytest.mark.parametrize("path", ["", "absent", "linear"])
def test_a_path_to_no_list(fails: Fails, path: str) -> None:
    error = fails(in_order, iterations=path)
    assert error.where == f"iterations={path!r}"
    assert "layers, others" in error.allowed


def test_a_list_that_does_not_run(fails: Fails) -> None:
    assert "none of its items" in fails(in_order, iterations="others").found


def test_another_number_of_iterations(fails: Fails) -> None:
    assert fails(in_order, iterations=4).found == "the module has `layers` (3 items)"
    assert fails(marked_twice, iterations=3).found == "the module has 2 markers"


def test_a_module_for_one_batch_size(fails: Fails) -> None:
    error = fails(fixed_batch)
    assert "torch cannot keep the batch size free: specialized it to be a constant (3)" in error.found
    assert "batch='fixed'" in error.do


def test_a_marker_whose_result_is_not_read(fails: Fails) -> None:
    error = fails(unread_marker)
    assert "after 3 of its 3 calls nothing reads what `unfoldc.iterate` returns" in error.found


def test_random_numbers_in_forward_are_noticed_by_the_check(fails: Fails) -> None:
    error = fails(random)
    assert error.where == "output x"
    assert error.allowed == "at most 1e-04"
    assert "random numbers" in error.do


def test_an_answer_that_is_no_tensor(fails: Fails) -> None:
    assert "it returns a int" in fails(nothing).found


def test_an_example_that_does_not_fit(fails: Fails) -> None:
    error = fails(in_order, y=torch.rand(3, 5))
    assert "it does not run on the example inputs: RuntimeError" in error.found
    assert "[(3, 5)]" in error.do


def test_a_marker_used_wrongly_is_told_as_such(solvers: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unfoldc.iterate: an argument of type float"):
        export_onnx(solvers.Calls(marked_number), torch.rand(3, 4), tmp_path / "a.onnx")


def test_weights_that_are_not_finite(solvers: ModuleType, tmp_path: Path) -> None:
    module = solvers.Lista(2)
    module.layers[1].theta.data.fill_(float("nan"))
    with pytest.raises(ExportError, match=r"^layers\.1\.theta: 1 of 1 elements of this parameter are NaN"):
        export_onnx(module, torch.rand(3, 5), tmp_path / "a.onnx")


def test_the_exporters_remarks_are_held_back_only_meanwhile(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    with quiet():
        logger.warning("torchvision is not installed")
        warnings.warn("deprecated", FutureWarning, stacklevel=1)
        print("a graph", file=sys.stderr)
    assert not caplog.records
    assert capsys.readouterr().err == ""
    logger.warning("something else")
    assert [record.message for record in caplog.records] == ["something else"]


def test_an_export_says_nothing_on_the_way(
    solvers: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    module = solvers.Lista(2).train()
    export_onnx(module, torch.randn(3, 5), tmp_path / "a.onnx")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert module.training and module.layers[0].training
