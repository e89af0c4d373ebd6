"""Whether a solver's products over a whole batch are faster than its kernel, and from which batch on: by estimates.

The figures are of GPUs of the day, from their data sheets; answers do not hang on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unfoldc.kernels.gpu.choices import PROCESSORS
from unfoldc.kernels.gpu.costs import work
from unfoldc.kernels.gpu.launch_list import Elementwise, Launches, launches
from unfoldc.kernels.gpu.product import Product
from unfoldc.kernels.gpu.split_products import split_products
from unfoldc.kernels.loops import ITERATION, For, LoopProgram, Nest, Stmt

if TYPE_CHECKING:
    from unfoldc.kernels.artifact import Port

LEAST_WEIGHTS = 16 * 1024
"""Elements of the largest matrix below which one kernel keeps it near."""
_LEAST_APART = 1024  # elements of a matrix that is worth a product of its own in such a solver
_SHARE = 0.75  # of the arithmetic of an iteration that must be in products
_LAUNCH = 3e-6  # s between the starts of two launches
_TERM = 8e-9  # s for a term of a sum, where a product is too small to fill the GPU
_ARITHMETIC = 2e13  # multiply-adds per s of a large product in float32
_MEMORY = 3e12  # bytes per s
_NEAR = 200 * 1024  # bytes of weights that stay in a processor
_NEAR_RATE, _FAR_RATE, _FAR_RATES = 1e11, 1e11, 5e12  # bytes per s: of a processor near, from afar, from afar for all
_BATCHES = tuple(1 << i for i in range(5, 17))


@dataclass(frozen=True)
class ProductForm:
    """The form `name` for batches of at least `from_batch` problems; `tf32`: factors may be rounded to 10 bits."""

    from_batch: int
    launches: Launches
    name: str = "products"
    tf32: bool = False


def shared_buffers(program: LoopProgram, inputs: Sequence[Port], outputs: Sequence[Port]) -> frozenset[str]:
    """The buffers that all problems of a batch share."""
    ports = zip((*program.inputs, *program.outputs), (*inputs, *outputs), strict=True)
    constants = {name for name, b in program.buffers.items() if b.space == "constant"}
    return frozenset(constants | {name for name, port in ports if not port.batched})


def product_form(
    program: LoopProgram,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    from_batch: int | None = None,
    least: int | None = None,
    tf32: bool = False,
) -> ProductForm | None:
    """The form, where it pays for some batch; `from_batch` and `least` (elements of weights) take the place of that."""
    shared = shared_buffers(program, inputs, outputs)
    apart = _LEAST_APART if least is None else least
    found = launches(split_products(program, shared, apart), shared, apart)
    products = [t for _, _, tasks in found.steps for t in tasks if isinstance(t, Product)]
    largest = max((p.m * p.n for p in products), default=0)
    if not products or largest < (LEAST_WEIGHTS if least is None else least):
        return None
    if from_batch is None:
        batches = [b for b in _BATCHES if _seconds(found, b) < _kernel_seconds(found, b)]
        if not batches or _share(found) < _SHARE:
            return None
        from_batch = batches[0]
    return ProductForm(from_batch, found, tf32=tf32)


def _share(found: Launches) -> float:
    """How much of the iterations' arithmetic is in products."""
    inside = outside = 0.0
    for first, count, tasks in found.steps:
        ranges = {ITERATION: (first, first + count - 1)}
        for t in tasks:
            if isinstance(t, Product):
                inside += 2.0 * t.multiply_adds * count
            else:
                bounds = {v: (0, n - 1) for v, n in zip(t.variables, t.extents, strict=True)}
                outside += t.results * work(_sums(t), {**ranges, **bounds}) * count
    return inside / (inside + outside)


def _sums(t: Elementwise) -> tuple[Stmt, ...]:
    """The loops that each thread runs by itself; what else it does hides behind memory."""
    return tuple(s for s in t.body if isinstance(s, For | Nest))


def _seconds(found: Launches, batch: int) -> float:
    """Of all iterations, as launches."""
    total = 0.0
    for _, count, tasks in found.steps:
        for t in tasks:
            if isinstance(t, Product):
                large = batch * t.multiply_adds / _ARITHMETIC
                total += count * (_LAUNCH + max(large, t.n * _TERM))
            else:
                total += count * (_LAUNCH + batch * 16.0 * t.results / _MEMORY)
    return total


def _kernel_seconds(found: Launches, batch: int) -> float:
    """Of all iterations in one kernel whose blocks solve a problem each: by the weights that they read."""
    weights: dict[tuple[str, int], int] = {}
    for _, count, tasks in found.steps:
        for t in tasks:
            if isinstance(t, Product):
                weights[t.weights.buffer, t.weights.first] = 4 * t.m * t.n * (count if t.weights.per_iteration else 1)
    near = sum(weights.values()) <= _NEAR
    blocks = min(batch, PROCESSORS)
    rate = _NEAR_RATE if near else min(_FAR_RATE, _FAR_RATES / blocks)
    waves = -(-batch // PROCESSORS)
    read = sum(
        count * 4.0 * t.multiply_adds for _, count, tasks in found.steps for t in tasks if isinstance(t, Product)
    )
    return waves * read / rate
