"""Back end `c`: loop nests as C99, and for the host also as vectors of problems."""

from unfoldc.kernels.printers.c.print_c import c_sources

__all__ = ["c_sources"]
