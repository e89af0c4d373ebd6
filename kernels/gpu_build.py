"""What the back end `cuda` makes of a loop program: its forms, for few problems and for many, and their sources."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.gpu.defaults import default_gpu_choices, fits_a_block, from_batch
from unfoldc.kernels.gpu.mapping import Mapper
from unfoldc.kernels.gpu.product_form import product_form
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.passes.fuse_results import results_fused
from unfoldc.kernels.passes.plan_memory import plan_memory
from unfoldc.kernels.printers.cuda import CudaForm, cuda_sources
from unfoldc.kernels.printers.tvm_cuda import tvm_cuda_sources

_MANY = 1 << 16


def cuda_program(lowered: LoopProgram) -> LoopProgram:
    """The program as kernels are made of it: nests over the same results joined, which spares barriers.

    Its memory plan is for the record: on the lanes, buffers share no place.
    """
    return plan_memory(results_fused(lowered))


def cuda_forms(program: LoopProgram, inputs: Sequence[Port], outputs: Sequence[Port]) -> tuple[CudaForm, ...]:
    """One form, or two where few problems want another one than many.

    A problem that takes the whole grid since its state fits no block is solved so in every batch, one after the other:
    side by side they would wait for the same memory, and a second kernel of that size takes as long to compile again.
    """
    ports = zip((*program.inputs, *program.outputs), (*inputs, *outputs), strict=True)
    mapper = Mapper(program, frozenset(name for name, port in ports if not port.batched))
    few = default_gpu_choices(mapper, 1)
    one = CudaForm("one", 1, few)
    if not any(port.batched for port in inputs) or (few.is_grid and not fits_a_block(mapper)):
        return (one,)
    many = default_gpu_choices(mapper, _MANY)
    return (one,) if many == few else (one, CudaForm("many", from_batch(mapper, few, many), many))


def cuda_artifact_sources(
    symbol: str, program: LoopProgram, inputs: Sequence[Port], outputs: Sequence[Port], allow_tf32: bool = False
) -> dict[str, str]:
    """The module of kernels and the facts of their launch; `allow_tf32` for products of matrices."""
    products = product_form(program, inputs, outputs, tf32=allow_tf32)
    forms = [f for f in cuda_forms(program, inputs, outputs) if products is None or f.from_batch < products.from_batch]
    return cuda_sources(symbol, program, inputs, outputs, forms, products)


def tvm_cuda_artifact_sources(
    symbol: str, program: LoopProgram, inputs: Sequence[Port], outputs: Sequence[Port]
) -> dict[str, str]:
    """The same kernels for TVM, and the facts of their launch; all forms are kernels, none a list of products."""
    return tvm_cuda_sources(symbol, program, inputs, outputs, cuda_forms(program, inputs, outputs))
