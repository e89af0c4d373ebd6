"""The first part of every printed module for CUDA: memory, barriers, and operations whose LLVM form matters.

Kept as text: a printed module is complete in itself. It has two forms, one for numba's simulator and one for a device;
the kernels are the same text. Buffers of the caller are pointers, which are not wrapped around at negative indices.
"""

from __future__ import annotations

from textwrap import indent

from unfoldc.kernels.printers.cuda.device_prelude import DEVICE
from unfoldc.kernels.printers.cuda.simulator_prelude import SIMULATOR

_PAD = "    "
_HEAD = """\
import math

import numpy as np
from numba import config, cuda, types

inf, nan = float("inf"), float("nan")
OPTIONS = {"fastmath": False, "opt": True}
"""

PRELUDE = f"{_HEAD}\nif config.ENABLE_CUDASIM:\n{indent(SIMULATOR, _PAD)}else:\n{indent(DEVICE, _PAD)}"
