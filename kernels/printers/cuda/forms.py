"""The ways in which a solver is mapped, and the facts of their launch, whoever prints the kernels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from unfoldc.kernels.gpu import GpuChoices, Mapped, map_program
from unfoldc.kernels.printers.cuda.arguments import Arguments

PREFIXES = ("shared_", "work_", "weights_", "exchange_", "first_", "team_", "lane_", "solve_")
"""How names begin that a kernel makes of a type or a number."""

_STAMPS = (
    "K + 3 int64 per block, cycles of its processor (of a list of launches: ns): at the start of the launch; after "
    "begin, each iteration and end of its last problems"
)


@dataclass(frozen=True)
class CudaForm:
    """One of the ways in which a solver is mapped, for batches of at least `from_batch` problems."""

    name: str
    from_batch: int
    choices: GpuChoices

    @property
    def kernel(self) -> str:
        """The name of its kernel."""
        return f"solve_{self.name}"


@dataclass(frozen=True)
class MappedForm:
    """A form with its mapping."""

    form: CudaForm
    mapped: Mapped


def mapped_forms(own: Arguments, forms: Sequence[CudaForm]) -> list[MappedForm]:
    """The program of these arguments, mapped in each of the ways."""
    unbatched = frozenset(n for n, port in own.ports.items() if not port.batched)
    return [MappedForm(form, map_program(own.program, form.choices, unbatched)) for form in forms]


def launch_text(own: Arguments, forms: Sequence[MappedForm], *lists: dict[str, object]) -> str:
    """`<symbol>_launch.json`; `lists` are forms that are lists of launches, as they stand there."""
    iterations = own.program.iterations
    launch = {
        "forms": [*map(_facts, forms), *lists],
        "parameters": own.rows,
        "weights": [[t, size, list(map(list, entries.items()))] for t, (size, entries) in own.weights.items()],
        "stamps": _STAMPS,
        "stamps_per_block": iterations + 3,
    }
    return json.dumps(launch, indent=1) + "\n"


def _facts(form: MappedForm) -> dict[str, object]:
    choices, mapped = form.form.choices, form.mapped
    return {
        "name": form.form.name,
        "from_batch": form.form.from_batch,
        "kernel": form.form.kernel,
        "threads": choices.block_threads,
        "problems": choices.problems,
        "group": choices.group,
        "shared_bytes": mapped.shared.nbytes,
        "workspace_bytes": mapped.workspace.nbytes,
        "cooperative": choices.is_grid,
    }
