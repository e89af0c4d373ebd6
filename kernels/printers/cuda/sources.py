"""The sources of a solver for CUDA: a module with its kernels, and what launching them takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unfoldc.kernels.gpu import GpuChoices, Mapped, map_program
from unfoldc.kernels.gpu.product_form import ProductForm
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.cuda.arguments import Arguments, arguments
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
_PREFIXES = ("shared_", "work_", "weights_", "exchange_", "first_", "team_", "lane_", "solve_")
_RESERVED = frozenset(_OWN.split()) | frozenset(compile(PRELUDE, "prelude", "exec").co_names)


@dataclass(frozen=True)
class CudaForm:
    """One of the ways in which a solver is mapped, for batches of at least `from_batch` problems."""

    name: str
    from_batch: int
    choices: GpuChoices


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
    unbatched = frozenset(n for n in program.inputs if not own.ports[n].batched)
    kernels, facts = [], []
    for form in forms:
        mapped = map_program(program, form.choices, unbatched)
        kernels.append(KernelPrinter(mapped, own, _names(own), f"solve_{form.name}").text())
        facts.append(_form(form, mapped))
    if products is not None:
        listed = ListPrinter(products, own, lambda: _names(own))
        facts.append(listed.facts())
        kernels += listed.texts
    head = f"# The solver {symbol}: begin, {program.iterations} iterations, end.\n"
    launch = {
        "forms": facts,
        "parameters": own.rows,
        "weights": [[t, size, list(map(list, entries.items()))] for t, (size, entries) in own.weights.items()],
        "stamps": _STAMPS,
        "stamps_per_block": program.iterations + 3,
    }
    return {
        f"{symbol}.py": "\n\n".join([head + PRELUDE, *kernels]),
        f"{symbol}_launch.json": json.dumps(launch, indent=1) + "\n",
    }


_STAMPS = (
    "K + 3 int64 per block, cycles of its processor (of a list of launches: ns): at the start of the launch; after "
    "begin, each iteration and end of its last problems"
)


def _names(own: Arguments) -> Names:
    return Names(_RESERVED | set(own.names), _PREFIXES)


def _form(form: CudaForm, mapped: Mapped) -> dict[str, object]:
    choices = mapped.choices
    return {
        "name": form.name,
        "from_batch": form.from_batch,
        "kernel": f"solve_{form.name}",
        "stamped": f"solve_{form.name}",
        "threads": choices.block_threads,
        "problems": choices.problems,
        "group": choices.group,
        "shared_bytes": mapped.shared.nbytes,
        "workspace_bytes": mapped.workspace.nbytes,
        "cooperative": choices.is_grid,
    }
