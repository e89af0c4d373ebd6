"""The marker that tells where one iteration of a plain Python loop ends and the next begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from unfoldc.errors import InputError

_recording: ContextVar[bool] = ContextVar("unfoldc_recording", default=False)


def _clones(states: Sequence[Tensor], names: str) -> list[Tensor]:
    # An operator may not return its own inputs, hence the copies; eager code never comes here.
    return [state.clone() for state in states]


def _empty(states: Sequence[Tensor], names: str) -> list[Tensor]:
    return [torch.empty_like(state) for state in states]


def _backward(ctx: Any, gradients: Sequence[Tensor]) -> tuple[Sequence[Tensor], None]:
    return gradients, None


# One operator for all states of an iteration: a state that nothing reads after the last iteration stays alive with
# the others.
marker = torch.library.custom_op(
    "unfoldc::iterate", _clones, mutates_args=(), schema="(Tensor[] states, str names) -> Tensor[]"
)
marker.register_fake(_empty)
marker.register_autograd(_backward)


def translation(states: Sequence[Any], names: str = "") -> tuple[Any, ...]:
    """The marker in the exporter's graph, until `listing.read_model` takes it out again."""
    from onnxscript import opset18

    op: Any = opset18
    sequence = op.SequenceConstruct(*states)
    return tuple(op.SequenceAt(sequence, index) for index in range(len(states)))


@contextmanager
def recording() -> Iterator[None]:
    """While it lasts, `iterate` leaves a node in the traced graph."""
    token = _recording.set(True)
    try:
        yield
    finally:
        _recording.reset(token)


def iterate(*states: Tensor, names: Sequence[str] | None = None) -> Any:
    """Mark the border between two iterations of a plain loop; returns what it is given.

    Write it once, as the last (or the first) statement of the loop's body, with all tensors that the next iteration
    needs:

        for k in range(K):
            ...
            x, u = unfoldc.iterate(x, u)

    Outside `export_onnx` it hands its arguments back untouched: no copy, no operator, gradients as without it.

    Args:
        states: one tensor or several, of any shapes.
        names: what to call them in the exported file, one name for each.

    Raises:
        InputError: an argument is not a tensor, or the names do not fit.
    """
    for state in states:
        if not isinstance(state, Tensor):
            raise InputError(
                "unfoldc.iterate",
                f"an argument of type {type(state).__name__}",
                "tensors, each an argument of its own",
                "Pass the tensors that the next iteration needs, as in `x, u = unfoldc.iterate(x, u)`.",
            )
    if not states or (names is not None and not _fitting(names, len(states))):
        raise InputError(
            "unfoldc.iterate",
            f"{len(states)} tensors with names {names}",
            "at least one tensor; names that are distinct, not empty, without commas, one for each tensor",
            "Write `x = unfoldc.iterate(x)`, or `x, u = unfoldc.iterate(x, u, names=('x', 'u'))`.",
        )
    if _recording.get():
        states = tuple(torch.ops.unfoldc.iterate(list(states), ",".join(names or ())))
    return states[0] if len(states) == 1 else states


def _fitting(names: Sequence[str], count: int) -> bool:
    plain = not isinstance(names, str) and all(isinstance(n, str) and n and "," not in n for n in names)
    return plain and len(names) == count == len(set(names))
