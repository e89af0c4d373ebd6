"""Back end `numba`: loop nests as Python source that Numba compiles."""

from unfoldc.kernels.printers.numba_cpu.printer import numba_sources

__all__ = ["numba_sources"]
