"""The fastest of several builds of a model, one for each back end that is worth measuring."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unfoldc.errors import UnfoldcError
from unfoldc.one_build import build_one
from unfoldc.request import Request
from unfoldc.runtime.artifact_folder import Build, add_note
from unfoldc.runtime.backends import compiles_fast, open_engine, rivals
from unfoldc.runtime.contest import Verdict, contest
from unfoldc.runtime.engine_reference import ReferenceEngine

if TYPE_CHECKING:
    from unfoldc.runtime.engine import Engine


def build_fastest(request: Request, folder: Path) -> Build:
    """Build with C and with what is worth measuring against it; the fastest that is right ends up in `folder`."""
    from unfoldc.kernels.pipeline import build_artifact, load_program

    model, program = load_program(request.path, **request.options)
    spec, symbol = request.target.spec, request.symbol
    builds = {"c": build_one(request, build_artifact(model, program, spec, "c", symbol, host=True), folder)}
    engines: dict[str, Engine] = {}
    left_out = []
    with tempfile.TemporaryDirectory(prefix="unfoldc-") as aside_:
        for name in rivals():
            try:
                artifact = build_artifact(model, program, spec, name, symbol, host=True)
                if not compiles_fast(artifact):
                    left_out.append(f"{name} would take long to compile")
                    continue
                place = Path(aside_) / name
                place.mkdir()
                made = build_one(request, artifact, place)
                engines[name] = open_engine(made)
                builds[name] = made
            except Exception as error:  # C is built: whatever a rival's tools raise, it is only a rival
                found = error.found if isinstance(error, UnfoldcError) else f"{type(error).__name__}: {error}"
                left_out.append(f"{name} cannot compile it: {found}")
        try:
            verdict = _verdict(request, builds["c"], engines)
        except Exception as error:  # too little memory for many problems, say: C is right without a measurement
            verdict = Verdict("c", f"c; the others could not be measured ({type(error).__name__}: {error})")
        if verdict.winner != "c":
            take_over(builds[verdict.winner].folder, folder)
    won = replace(builds[verdict.winner], folder=folder)
    return add_note(won, "choice", "; ".join([verdict.text, *left_out]))


def _verdict(request: Request, first: Build, rivals: Mapping[str, Engine]) -> Verdict:
    if not rivals:
        return Verdict("c", "c")
    request.progress("measuring the back ends")

    def arbiter() -> Engine:
        return ReferenceEngine(first.artifact, first.folder / first.model, request.options)

    return contest({"c": open_engine(first), **rivals}, first.artifact, arbiter)


def take_over(folder: Path, destination: Path) -> None:
    """Put what is in a folder in place of what is in the other."""
    for old in destination.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    for new in folder.iterdir():
        shutil.move(new, destination / new.name)
