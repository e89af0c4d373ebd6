"""A copy of a deepinv physics whose methods can be traced: no loop that stops by data, no batch among the channels."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from unfoldc.errors import ExportError
from unfoldc.export.deepinv_checks import deepinv_module
from unfoldc.export.deepinv_convolution import convolve, correlate, has_own
from unfoldc.export.deepinv_sampling import replace_sampling

# deepinv computes the residual anew after so many iterations, which is left out here.
MOST_ITERATIONS = 100


def traceable(physics: Any) -> Any:
    """A copy of the physics that computes the same without branches on data."""
    module = deepinv_module("deepinv.physics")
    result = copy.deepcopy(physics)  # torch 2.13 copies generators, for which deepinv has a slow clone() of its own
    for part in result.modules():
        if isinstance(part, module.LinearPhysics) and _iterative(part, module):
            part.prox_l2 = partial(_prox_l2, part)
        if isinstance(part, module.Downsampling) and has_own(part):
            replace_sampling(part)
        elif isinstance(part, module.Blur) and has_own(part) and not part.use_fft:
            part.conv = {**part.conv, 2: convolve}
            part.conv_transpose = {**part.conv_transpose, 2: correlate}
    return result


def _iterative(physics: Any, module: Any) -> bool:
    """Whether its proximal operator is a linear solver."""
    generic = type(physics).prox_l2 is module.LinearPhysics.prox_l2
    return generic or (isinstance(physics, module.Downsampling) and physics.padding != "circular")


def _prox_l2(
    physics: Any, z: Tensor | float | None, y: Tensor, gamma: Tensor | float, solver: str = "CG", **options: Any
) -> Tensor:
    """argmin_x gamma/2 ||A x - y||^2 + 1/2 ||x - z||^2 by `physics.max_iter` conjugate gradients, as deepinv does."""
    count = options.pop("max_iter", None) or physics.max_iter
    tolerance = options.pop("tol", None)
    tolerance = physics.tol if tolerance is None else tolerance
    if tolerance != 0 or solver != "CG" or not 1 <= count <= MOST_ITERATIONS or isinstance(z, float | int | None):
        raise ExportError(
            f"{type(physics).__name__}.prox_l2",
            f"no closed form; solved by {solver} until a tolerance of {tolerance} or {count} iterations",
            f"a closed form, or CG with tolerance 0 and 1 to {MOST_ITERATIONS} iterations, whose number is fixed",
            "Set physics.tol = 0 and physics.max_iter = 10 before the model is trained and wrapped, take a physics "
            "with a closed form (Denoising, Inpainting, BlurFFT, MRI), or use PGD, which needs no prox of it.",
        )
    weight = 1 / gamma
    if isinstance(weight, Tensor) and weight.ndim == 1:
        weight = weight.reshape(-1, *(1,) * (z.ndim - 1))
    right = physics.A_adjoint(y) + weight * z
    return _conjugate_gradients(lambda x: physics.A_adjoint_A(x) + weight * x, right, z, count)


def _conjugate_gradients(matrix: Callable[[Tensor], Tensor], b: Tensor, x: Tensor, count: int) -> Tensor:
    """`count` steps for matrix(x) = b, each problem by itself; the small terms keep a solved one from 0 / 0."""
    inner = list(range(1, b.ndim))
    residual = b - matrix(x)
    direction = residual
    square = (residual * residual).sum(inner, keepdim=True)
    for step in range(count):
        image = matrix(direction)
        length = square / ((direction * image).sum(inner, keepdim=True) + 1e-8)
        x = x + direction * length
        if step + 1 == count:
            break
        residual = residual - image * length
        last, square = square, (residual * residual).sum(inner, keepdim=True)
        direction = residual + direction * (square / (last + 1e-8))
    return x
