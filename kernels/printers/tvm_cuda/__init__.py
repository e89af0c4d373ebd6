"""Back end `tvm` for GPUs: the kernels of a mapped solver as TIR, of which TVM makes CUDA C.

The expressions are those of `printers/tvm`, the arguments and the facts of a launch those of `printers/cuda`: whatever
runs the kernels of one runs those of the other.
"""

from unfoldc.kernels.printers.tvm_cuda.sources import tvm_cuda_sources

__all__ = ["tvm_cuda_sources"]
