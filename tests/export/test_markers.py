from __future__ import annotations

import pytest
import torch

from unfoldc.errors import InputError
from unfoldc.export import iterate
from unfoldc.export.markers import recording


def test_outside_an_export_the_arguments_come_back_untouched() -> None:
    x, u = torch.ones(2, 3), torch.zeros(4)
    assert iterate(x) is x
    assert iterate(x, u) == (x, u)
    assert iterate(x, u)[0] is x


def test_gradients_pass_as_without_it() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (iterate(x * 3) ** 2).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([18.0, 36.0]))


def test_gradients_pass_through_the_operator_too() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    with recording():
        a, b = iterate(x * 3, x * 5)
    (a.sum() + 2 * b.sum()).backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([13.0, 13.0]))


def test_torch_accepts_the_operator() -> None:
    states = [torch.randn(2, 3, requires_grad=True), torch.randn(4)]
    torch.library.opcheck(torch.ops.unfoldc.iterate.default, (states, "x,u"))


def test_states_may_differ_in_type() -> None:
    with recording():
        x, count = iterate(torch.ones(2), torch.tensor(3))
    assert count.dtype == torch.int64
    assert x.dtype == torch.float32


@pytest.mark.parametrize("states", [(1.0,), ((torch.ones(1), torch.ones(1)),), (None, torch.ones(1))])
def test_an_argument_that_is_no_tensor(states: tuple[object, ...]) -> None:
    with pytest.raises(InputError, match="unfoldc.iterate: an argument of type (float|tuple|NoneType)"):
        iterate(*states)  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [("x",), ("x", "x"), ("x", ""), ("x", "a,b"), "xu"])
def test_names_that_do_not_fit(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="2 tensors with names"):
        iterate(torch.ones(1), torch.ones(1), names=names)


def test_no_tensor_at_all() -> None:
    with pytest.raises(InputError, match="at least one tensor"):
        iterate()
