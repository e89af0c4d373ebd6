"""The sources of a solver for TVM's CUDA: the kernels as TIR, and what launching them takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unfoldc.kernels.gpu import map_program
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.cuda import CudaForm, cuda_sources
from unfoldc.kernels.printers.cuda.arguments import Arguments, arguments
from unfoldc.kernels.printers.python_text import Names
from unfoldc.kernels.printers.tvm_cuda.kernel import KernelPrinter
from unfoldc.kernels.printers.tvm_cuda.prelude import PRELUDE

if TYPE_CHECKING:
    from unfoldc.kernels.artifact import Port

_OWN = (
    "I T Module range print True False thread lane lanes group problem first valid memory batch iterations stride "
    "block blocks stamped workspace_data"
)
_PREFIXES = ("shared_", "work_", "weights_", "exchange_", "first_", "team_", "lane_", "solve_")


def tvm_cuda_sources(
    symbol: str,
    program: LoopProgram,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    forms: Sequence[CudaForm],
) -> dict[str, str]:
    """The kernels of all forms as a script of TVM's, and the C that they call; a pure function of the arguments.

    `<symbol>.tir` is the script, `<symbol>.cuh` the C. The kernels' names and arguments, and `<symbol>_launch.json`,
    are as `cuda_sources` has them.
    """
    own = arguments(program, inputs, outputs)
    unbatched = frozenset(n for n in program.inputs if not own.ports[n].batched)
    kernels = []
    for form in forms:
        mapped = map_program(program, form.choices, unbatched)
        kernels.append(KernelPrinter(mapped, own, _names(own), f"solve_{form.name}").text())
    launch = f"{symbol}_launch.json"
    head = f"# The solver {symbol}: begin, {program.iterations} iterations, end.\n@I.ir_module\nclass Module:\n"
    return {
        f"{symbol}.tir": head + "\n".join(kernels),
        f"{symbol}.cuh": PRELUDE,
        launch: cuda_sources(symbol, program, inputs, outputs, forms)[launch],
    }


def _names(own: Arguments) -> Names:
    arrays = [f"{name}{end}" for name in own.names for end in ("", "_data")]
    return Names({*_OWN.split(), *arrays}, _PREFIXES)
