"""The inputs of one call: checked, named, and invented where an example is needed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from unfoldc.errors import InputError
from unfoldc.unfold_train.sizes import Sizes
from unfoldc.unfold_train.solver import Solver
from unfoldc.unfold_train.values import Input


def is_batched(solver: Solver, name: str, tensor: Tensor) -> bool:
    """Whether the array holds one value per problem (leading batch axis) or one shared by all problems."""
    value = solver.values[name]
    if value.dims:
        return tensor.dim() > len(value.dims)
    return isinstance(value, Input) or tensor.dim() == 1


def bind_inputs(solver: Solver, sizes: Sizes, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Check the inputs of a call against the declared axes and each other; the view reads what is returned.

    A number per problem, shape (batch,), is returned as (batch, 1), so that it multiplies vectors of the batch.
    Raises InputError for a wrong type, shape or batch size.
    """
    bound: dict[str, Tensor] = {}
    sizes = sizes.copy()
    for name, tensor in given.items():
        value = solver.values[name]
        where = f"{type(solver).__name__} called with {name}"
        if not isinstance(tensor, Tensor):
            raise InputError(where, f"a {type(tensor).__name__}", "a torch tensor", "Use torch.from_numpy first.")
        if tensor.dtype != solver.dtype:
            raise InputError(where, f"type {tensor.dtype}", f"{solver.dtype}", f"Convert {name} or the given values.")
        axes = len(value.dims)
        batched = is_batched(solver, name, tensor)
        if axes and (tensor.dim() - axes not in (0, 1) or (isinstance(value, Input) and not batched)):
            shape = ", ".join(("batch", *value.dims))
            raise InputError(where, f"shape {tuple(tensor.shape)}", f"({shape})", "Add or remove an axis.")
        if batched and not axes:
            sizes.bind(name, ("batch",), tuple(tensor.shape[:1]))
        else:
            sizes.bind(name, ("batch", *value.dims) if batched else value.dims, tuple(tensor.shape))
        bound[name] = tensor.unsqueeze(-1) if not axes and tensor.dim() == 1 else tensor
    return bound


def example_inputs(solver: Solver, sizes: Sizes, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inputs of the right shapes for a trial run: those given, and seeded random ones for the others."""
    unknown = set(given) - set(solver.inputs)
    if unknown:
        raise InputError(
            f"example of {type(solver).__name__}",
            f"{', '.join(sorted(unknown))} is not an input",
            ", ".join(solver.inputs),
            "Give examples of inputs only.",
        )
    sizes = sizes.copy()
    batch = 2
    for name, tensor in given.items():
        if is_batched(solver, name, tensor):
            batch = tensor.shape[0]
        bare = tuple(tensor.shape[1 if is_batched(solver, name, tensor) else 0 :])
        sizes.bind(name, solver.values[name].dims, bare)
    generator = torch.Generator().manual_seed(0)
    example = {}
    for name in solver.inputs:
        dims = solver.values[name].dims
        missing = [d for d in dims if d not in sizes.known]
        if name in given:
            example[name] = given[name].detach().clone()
        elif missing or not dims:
            raise InputError(
                f"{type(solver).__name__}.{name}",
                f"an input whose size ({', '.join(missing) or 'no axes declared'}) follows from no given value",
                "an example of such an input",
                f"Write unfold(..., example={{'{name}': ...}}) with one array like those of the calls.",
            )
        else:
            shape = (batch, *(int(sizes.known[d][0]) for d in dims))
            example[name] = torch.randn(shape, generator=generator, dtype=solver.dtype)
    return example
