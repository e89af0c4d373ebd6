"""Back end `cuda`: the whole solver as one kernel, in Python that Numba compiles and its simulator runs."""

from unfoldc.kernels.printers.cuda.forms import CudaForm
from unfoldc.kernels.printers.cuda.sources import cuda_sources

__all__ = ["CudaForm", "cuda_sources"]
