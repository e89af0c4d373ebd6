"""What the compiler hands over: sources, ports, memory and cost; what follows (build, load, run) reads only this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unfoldc.kernels.target_spec import TargetSpec


@dataclass(frozen=True)
class Port:
    """An input or output. `shape` is one problem's; the caller's array has the batch axis in front where `batched`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    batched: bool

    @property
    def size(self) -> int:
        """Elements of one problem."""
        n = 1
        for d in self.shape:
            n *= d
        return n


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes: `state_bytes` is all of the caller's state, scratch included; `constant_bytes` live in flash.

    None where a runtime that is not ours decides.
    """

    state_bytes: int | None
    scratch_bytes: int | None
    constant_bytes: int


@dataclass(frozen=True)
class Cost:
    """Arithmetic of one problem: floating-point operations and bytes touched, by part."""

    begin_flops: int
    iterate_flops: tuple[int, ...]
    end_flops: int
    iterate_bytes: tuple[int, ...]


@dataclass(frozen=True)
class Artifact:
    """Sources of a compiled solver and all that a builder, a loader or a reader needs to know of it.

    `symbol` prefixes every function: `<symbol>_begin`, `<symbol>_iterate`, `<symbol>_end`, `<symbol>_solve`.
    `sources` maps a file name to its text; `weights` holds the constant buffers by name for back ends that load them as
    arrays (the C sources carry them as text). `models` maps a file name to an ONNX model, for the back end that runs
    those. `cost` is None where operators are not known to the compiler. `batch` is None where the caller chooses the
    batch at each call, else the one fixed at compile time.
    `early_stop` is empty when the answer may be read after any iteration, else the reason why not.
    """

    symbol: str
    backend: str
    target: TargetSpec
    iterations: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    sources: Mapping[str, str]
    weights: Mapping[str, np.ndarray]
    memory: MemoryPlan
    cost: Cost | None
    batch: int | None = None
    early_stop: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, bytes] = field(default_factory=dict)
