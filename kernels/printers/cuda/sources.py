"""The sources of a solver for CUDA: a module with its kernels, and what launching them takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unfoldc.kernels.gpu.product_form import ProductForm
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.cuda.arguments import Arguments, arguments
from unfoldc.kernels.printers.cuda.forms import PREFIXES, CudaForm, launch_text, mapped_forms
from unfoldc.kernels.printers.cuda.kernel import KernelPrinter
from unfoldc.kernels.printers.cuda.launch_list import ListPrinter
from unfoldc.kernels.printers.cuda.prelude import PRELUDE
from unfoldc.kernels.printers.python_text import Names

if TYPE_CHECKING:
    from unfoldc.kernels.artifact import Port

_OWN = (
    "thread lane lanes at group problem first valid stamped workspace batch iterations ticks turn start mine warp pass "
    "range abs type rows"
)
_RESERVED = frozenset(_OWN.split()) | frozenset(compile(PRELUDE, "prelude", "exec").co_names)


def cuda_sources(
    symbol: str,
    program: LoopProgram,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    forms: Sequence[CudaForm],
    products: ProductForm | None = None,
) -> dict[str, str]:
    """A module to compile and what its caller must know; a pure function of the arguments.

    `<symbol>.py` defines for each form the kernel `solve_<name>`, which stamps the time where `ticks` is no null
    pointer. `<symbol>_launch.json` says which, and how each form is launched. `products` is a form that is a list of
    launches (`launch_list.py`).
    """
    own = arguments(program, inputs, outputs)
    found = mapped_forms(own, forms)
    kernels = [KernelPrinter(f.mapped, own, _names(own), f.form.kernel).text() for f in found]
    lists: list[dict[str, object]] = []
    if products is not None:
        listed = ListPrinter(products, own, lambda: _names(own))
        lists.append(listed.facts())
        kernels += listed.texts
    head = f"# The solver {symbol}: begin, {program.iterations} iterations, end.\n"
    return {
        f"{symbol}.py": "\n\n".join([head + PRELUDE, *kernels]),
        f"{symbol}_launch.json": launch_text(own, found, *lists),
    }


def _names(own: Arguments) -> Names:
    return Names(_RESERVED | set(own.names), PREFIXES)
