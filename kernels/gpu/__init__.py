"""How a loop program runs on the lanes of a GPU: which lane does what, where buffers live, where lanes must wait."""

from unfoldc.kernels.gpu.choices import GRID, GpuChoices
from unfoldc.kernels.gpu.mapping import Mapped, map_program

__all__ = ["GRID", "GpuChoices", "Mapped", "map_program"]
