"""What a printed module says of its kernels: their forms, parameters and weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unfoldc.errors import ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.cuda.launch_list import LaunchList, launch_list

_ROLES = ("input", "output", "weights", "workspace", "batch", "iterations", "ticks")


@dataclass(frozen=True)
class Form:
    """One kernel and how it is launched, for batches from `from_batch` on.

    A block of `threads` solves `problems` at a time, each by a `group` of threads, and strides over the batch.
    `shared_bytes`: dynamic shared memory of a block. `workspace_bytes`: of global memory for a block, for the whole
    grid where it is `cooperative`: all blocks then work on one problem and must run at once.
    """

    name: str
    from_batch: int
    kernel: str
    threads: int
    problems: int
    group: int
    shared_bytes: int
    workspace_bytes: int
    cooperative: bool
    blocks: int = 0
    """The blocks of a cooperative launch at most; 0: as many as can run at once."""
    launches: LaunchList | None = None
    """In place of a kernel: what solves all problems together; `workspace_bytes` are those of a problem then."""

    def units(self, batch: int) -> int:
        """What the blocks of a launch share out: groups of problems, or the whole grid's turn."""
        return 1 if self.cooperative else -(-batch // self.problems)


@dataclass(frozen=True)
class Parameter:
    """A parameter of every kernel: an address (`type` ends with `*`) or a number. `index`: of the port or weights."""

    name: str
    type: str
    role: str
    index: int = 0


@dataclass(frozen=True)
class LaunchFacts:
    """The forms from the smallest batch up, parameters in order, weights `(dtype, elements, ((buffer, first), ...))`.

    `stamps`: 64-bit stamps that a block writes where `ticks` is no null pointer; `unfoldc.runtime.cuda.stamps` says
    which.
    """

    forms: tuple[Form, ...]
    parameters: tuple[Parameter, ...]
    weights: tuple[tuple[str, int, tuple[tuple[str, int], ...]], ...]
    stamps: int

    def form(self, batch: int) -> int:
        """The index of the form for a batch: the last that begins at or below it."""
        return max((i for i, form in enumerate(self.forms) if form.from_batch <= batch), default=0)


def launch_facts(artifact: Artifact) -> LaunchFacts:
    """The facts of an artifact; raises ToolError where they are none."""
    name = f"{artifact.symbol}_launch.json"
    try:
        found = json.loads(artifact.sources[name])
        forms = tuple(sorted((_form(item) for item in found["forms"]), key=lambda form: form.from_batch))
        parameters = tuple(_parameter(item) for item in found["parameters"])
        weights = tuple(
            (str(dtype), int(elements), tuple((str(buffer), int(first)) for buffer, first in entries))
            for dtype, elements, entries in found["weights"]
        )
        if not forms:
            raise ValueError("no forms")
        return LaunchFacts(forms, parameters, weights, int(found.get("stamps_per_block", artifact.iterations + 3)))
    except (KeyError, TypeError, ValueError) as error:
        raise ToolError(
            name, f"it does not describe kernels ({type(error).__name__}: {error})", "a file as unfoldc writes it",
            "Compile the model again with backend='cuda'.",
        ) from None  # fmt: skip


def gathered(artifact: Artifact, dtype: str, elements: int, entries: Sequence[tuple[str, int]]) -> np.ndarray:
    """All constants of one type in one array, as the kernels find them."""
    array = np.zeros(elements, dtype)
    for name, first in entries:
        values = np.asarray(artifact.weights[name], dtype).ravel()
        array[first : first + values.size] = values
    return array


def _form(item: dict[str, Any]) -> Form:
    sizes = {key: int(item[key]) for key in ("threads", "problems", "group", "shared_bytes", "workspace_bytes")}
    if sizes["threads"] < 1 or sizes["problems"] < 1:
        raise ValueError("a block without threads or problems")
    return Form(
        name=str(item["name"]),
        from_batch=int(item["from_batch"]),
        kernel=str(item["kernel"]),
        cooperative=bool(item["cooperative"]),
        blocks=int(item.get("blocks", 0)),
        launches=launch_list(item["list"]) if "list" in item else None,
        **sizes,
    )


def _parameter(item: list[Any]) -> Parameter:
    name, kind, role, *index = item
    if role not in _ROLES:
        raise ValueError(f"parameter {name} is {role!r}")
    return Parameter(str(name), str(kind), str(role), int(index[0]) if index else 0)
