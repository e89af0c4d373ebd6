"""What a peer gets and what it gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Built:
    """`run` is timed, nothing around it; `answer` runs and returns the output. `keep` holds what `run` points to."""

    run: Callable[[], object]
    answer: Callable[[], np.ndarray]
    keep: tuple[object, ...] = ()

    @staticmethod
    def into(output: np.ndarray, run: Callable[[], object], *keep: object) -> Built:
        """Of a call that writes into an array."""

        def answer() -> np.ndarray:
            output.fill(np.nan)
            run()
            return output

        return Built(run, answer, (output, *keep))


# The name of a variant -> how it is built. Building may raise anything; the text becomes the reason of the failure.
Variants = Mapping[str, Callable[[], Built]]


@dataclass(frozen=True)
class Task:
    """One graph at one batch.

    `files` are ONNX files by form, all but "dynamic" with the batch fixed: "ours" of `unfoldc.export_onnx` (weights
    once), "plain" of `torch.onnx.export`, "folded" and "folded-plain" the two after ONNX Runtime's basic rewriting with
    all constants folded and functions inlined, "single" as "folded" for one problem. `folder` is the peer's own.
    """

    graph: str
    iterations: int
    batch: int
    files: Mapping[str, Path]
    inputs: tuple[np.ndarray, ...]
    expected: np.ndarray
    tolerance: float
    folder: Path
    quick: bool = False

    def key(self, path: Path) -> str:
        """A name for what is made from a file: the peer builds nothing again that it has built from the same bytes."""
        return f"{self.graph}-{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"

    def output(self) -> np.ndarray:
        """An array for the answer."""
        return np.empty(self.expected.shape, np.float32)

    def error(self, found: np.ndarray) -> float:
        """||found - expected|| / ||expected|| in float64; infinite where a number is not finite."""
        x = np.asarray(found, dtype=np.float64)
        if x.shape != self.expected.shape:
            raise ValueError(f"the answer has shape {x.shape} instead of {self.expected.shape}")
        difference = float(np.linalg.norm(x - self.expected)) / max(float(np.linalg.norm(self.expected)), 1e-30)
        return difference if np.isfinite(difference) else float("inf")
