"""The sources of a solver for TVM's CUDA: the kernels as TIR, and what launching them takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.cuda.arguments import Arguments, arguments
from unfoldc.kernels.printers.cuda.forms import PREFIXES, CudaForm, launch_text, mapped_forms
from unfoldc.kernels.printers.python_text import Names
from unfoldc.kernels.printers.tvm_cuda.kernel import KernelPrinter
from unfoldc.kernels.printers.tvm_cuda.prelude import PRELUDE

if TYPE_CHECKING:
    from unfoldc.kernels.artifact import Port

_OWN = (
    "I T Module range print True False thread lane lanes group problem first valid memory batch iterations stride "
    "block blocks stamped workspace_data"
)


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
    found = mapped_forms(own, forms)
    kernels = [KernelPrinter(f.mapped, own, _names(own), f.form.kernel).text() for f in found]
    head = f"# The solver {symbol}: begin, {program.iterations} iterations, end.\n@I.ir_module\nclass Module:\n"
    return {
        f"{symbol}.tir": head + "\n".join(kernels),
        f"{symbol}.cuh": PRELUDE,
        f"{symbol}_launch.json": launch_text(own, found),
    }


def _names(own: Arguments) -> Names:
    arrays = [f"{name}{end}" for name in own.names for end in ("", "_data")]
    return Names({*_OWN.split(), *arrays}, PREFIXES)
