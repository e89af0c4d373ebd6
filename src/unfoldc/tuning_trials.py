"""Candidates of a tuning: each is compiled, judged, measured beside the untuned solver and written to the log."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unfoldc.cache import tool_versions
from unfoldc.errors import DeviceError, UnfoldcError
from unfoldc.external_data import external_digests
from unfoldc.kernels.schedule_choices import ScheduleChoices, changes, choices_for, default_for, with_changes
from unfoldc.request import Request
from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.backends import open_engine
from unfoldc.runtime.contest import Clock
from unfoldc.runtime.engine_reference import ReferenceEngine
from unfoldc.runtime.machine import processor
from unfoldc.runtime.products import make_product
from unfoldc.runtime.tuning_judge import Judge
from unfoldc.runtime.tuning_measure import INSTRUCTIONS, Sample, compare, margin, score, workloads
from unfoldc.tune_log import Entry, Key, append, read_log

if TYPE_CHECKING:
    from unfoldc.kernels.artifact import Artifact
    from unfoldc.runtime.engine import Engine

_LOOK = 0.2  # seconds of measuring a candidate
_MOST_HINTS = 16
_MOST_LOST = 3  # candidates one after the other: the device is gone
_TOOLS = {"c": ("ziglang",), "numba": ("numba", "llvmlite"), "tvm": ("apache-tvm", "ziglang")}


class OutOfTime(Exception):
    """There is no time left for another candidate."""


@dataclass(frozen=True)
class Outcome:
    """What became of a candidate: its score, as `score` has it, and the samples behind it."""

    score: float
    samples: Sequence[Sample] = ()


_Candidate = tuple[ScheduleChoices, "Artifact"]
_Result = tuple[Outcome, tuple[str, ...]]
WRONG, FAILED, LOST = "wrong answers", "not built", "lost with the device"


class Trials:
    """Scores candidates for one model, target and back end, until `finish` on the clock.

    `counts`: how many were "measured", were "alike" in every character of their code, came "from the log", gave `WRONG`
    answers, `FAILED` to build or to run, or were `LOST`; `refused` lines of logs. `entries`: those of this tuning, old
    and new.
    """

    def __init__(self, request: Request, untuned: Build, logs: Sequence[Path], clock: Clock) -> None:
        from unfoldc.kernels.pipeline import load_program

        self.request, self.untuned, self.clock = request, untuned, clock
        self.finish = math.inf
        self.artifact, self.spec, self.backend = untuned.artifact, request.target.spec, untuned.artifact.backend
        self.default = default_for(self.spec, self.backend)
        self.space = choices_for(self.spec, self.backend)
        self._model, self._program = load_program(request.path, **request.options)
        self.engine = open_engine(untuned, on=request.on)
        self.work = workloads(self.artifact, self.engine, clock)
        self.unit = self.work[0].unit
        self.judge = Judge(self.artifact, self.engine, self._exact(), emulated=self._slow)
        give_back(self.engine)  # there may be one board only
        self.key, self.versions = key_of(request, self.backend), tool_versions(_TOOLS[self.backend])
        self.counts: Counter[str] = Counter()
        self.entries: list[Entry] = []
        self.outcomes = {self.default: Outcome(1.0)}
        self._by_text = {_digest(self.artifact): Outcome(1.0)}
        self._lost = 0
        self._each = 0.0  # seconds that a candidate took
        self.log = request.tune_log
        self._read(logs)

    def scores(self, wanted: Sequence[ScheduleChoices]) -> list[float]:
        """The scores of these candidates; raises OutOfTime before one for which there is no time."""
        wide = min(4, os.cpu_count() or 1) if self.backend == "c" else 1
        todo = [c for c in wanted if c not in self.outcomes]
        for start in range(0, len(todo), wide):
            self._try(todo[start : start + wide])
        return [self.outcomes[c].score for c in wanted]

    @property
    def ranking(self) -> list[ScheduleChoices]:
        """The candidates that are better than untuned, the best first; of those with the same code one."""
        least = 1 - margin(self.unit)
        better = {id(outcome): c for c, outcome in reversed(self.outcomes.items()) if outcome.score < least}
        return sorted(better.values(), key=lambda c: (self.outcomes[c].score, len(changes(c, self.default))))

    @property
    def first(self) -> list[ScheduleChoices]:
        """What is worth trying first: the best that is known, and what was best elsewhere or with other versions."""
        others = sorted((c for c in self._hints if c not in self.outcomes), key=lambda c: self._hints[c])
        return [*self.ranking[:1], *others[:_MOST_HINTS]]

    def compiled(self, choices: ScheduleChoices) -> Artifact:
        """The artifact of a candidate."""
        from unfoldc.kernels.pipeline import build_artifact

        host = self.untuned.kind == "host"
        symbol = self.artifact.symbol
        return build_artifact(self._model, self._program, self.spec, self.backend, symbol, host, choices=choices)

    def simplest(self, choices: ScheduleChoices) -> ScheduleChoices:
        """The candidate without the changes that change nothing of its code."""
        text = _digest(self.compiled(choices))
        for name in changes(choices, self.default):
            without = replace(choices, **{name: getattr(self.default, name)})
            if _digest(self.compiled(without)) == text:
                choices = without
        return choices

    def _try(self, some: Sequence[ScheduleChoices]) -> None:
        artifacts: list[_Candidate] = []
        begun = self.clock()
        for choices in some:
            if self.clock() + self._each > self.finish:
                raise OutOfTime
            try:
                artifact = self.compiled(choices)
            except Exception as error:  # whatever a pass makes of a combination that nobody has tried
                outcome, reason = _fault(error)
                self.counts[FAILED] += 1
                self._note(choices, outcome, reason)
                continue
            known = self._by_text.get(_digest(artifact))
            if known is None:
                artifacts.append((choices, artifact))
            else:
                self.outcomes[choices] = known
                self.counts["alike"] += 1
        if not artifacts:
            return
        with tempfile.TemporaryDirectory(prefix="unfoldc-tune-") as folder:
            for (choices, artifact), result in zip(artifacts, self._results(artifacts, Path(folder)), strict=True):
                outcome, reason = result()
                self.counts["measured" if not reason else reason[0]] += 1
                self._note(choices, outcome, reason)
                self._by_text[_digest(artifact)] = outcome
                self._say()
                self._lost = self._lost + 1 if LOST in reason else 0
                if self._lost >= _MOST_LOST:
                    raise OutOfTime
        self._each = max(0.5 * self._each, (self.clock() - begun) / len(artifacts))

    def _results(self, artifacts: Sequence[_Candidate], folder: Path) -> list[Callable[[], _Result]]:
        """What gives the result of each candidate: all are built at once, and what is counted is counted at once."""
        counted = self.unit == INSTRUCTIONS

        def made(number: int) -> Callable[[], _Result]:
            place = folder / str(number)
            place.mkdir()
            try:
                build = self._built(artifacts[number][1], place)
            except Exception as error:
                fault = _fault(error)
                return lambda: fault
            if not counted:
                return lambda: self._looked(build)
            found = self._looked(build)
            return lambda: found

        if len(artifacts) == 1:
            return [made(0)]
        with ThreadPoolExecutor(len(artifacts)) as pool:
            return list(pool.map(made, range(len(artifacts))))

    def _built(self, artifact: Artifact, place: Path) -> Build:
        if self.request.on is not None and self.unit != INSTRUCTIONS:  # its runner is built when it is opened
            return replace(self.untuned, artifact=artifact, folder=place, product="")
        product = make_product(artifact, self.untuned.target, self.untuned.kind, place)
        return replace(self.untuned, artifact=artifact, folder=place, product=product)

    def _looked(self, build: Build) -> _Result:
        """The score of a build, or why it has none."""
        engine: Engine | None = None
        try:
            engine = open_engine(build, on=self.request.on)
            if fault := self.judge.fault(engine):
                return Outcome(math.inf), (WRONG, fault)
            seconds = min(_LOOK, max(0.05, (self.finish - self.clock()) / 10))
            samples = compare(self.artifact, self.engine, engine, self.work, seconds, clock=self.clock)
            return Outcome(score(samples), samples), ()
        except Exception as error:
            return _fault(error)
        finally:
            close(engine)

    def _note(self, choices: ScheduleChoices, outcome: Outcome, reason: tuple[str, ...] = ()) -> None:
        self.outcomes[choices] = outcome
        if LOST in reason:  # which says nothing of the candidate
            return
        changed = changes(choices, self.default)
        entry = Entry(self.key, self.versions, changed, outcome.samples, not reason, ": ".join(reason))
        self.entries.append(entry)
        if self.log is not None:
            append(self.log, [entry])

    def _say(self) -> None:
        best = min(outcome.score for outcome in self.outcomes.values())
        left = max(0.0, self.finish - self.clock())
        tried, wrong = sum(self.counts.values()), sum(self.counts[reason] for reason in (WRONG, FAILED, LOST))
        dropped = f", {wrong} dropped" if wrong else ""
        self.request.progress(
            f"tuning {self.backend} on {self.untuned.target}: {tried} schedules ({self.counts['measured']} measured, "
            f"{self.counts['alike']} alike{dropped}), best {best:.1%} of untuned, {left:.0f} s left"
        )

    def _read(self, logs: Sequence[Path]) -> None:
        """Take the figures of logs that hold here, and the choices of others for this model as hints."""
        self.refused = 0
        self._hints: dict[ScheduleChoices, float] = {}
        for path in logs:
            entries, refused = read_log(path)
            self.refused += refused
            for entry in entries:
                self._take(entry)

    def _take(self, entry: Entry) -> None:
        if entry.key.model != self.key.model or entry.key.backend != self.key.backend:
            return
        try:
            choices = with_changes(entry.choices, self.spec, self.backend)
        except ValueError:
            self.refused += entry.key.target == self.key.target
            return
        found = Outcome(score(entry.samples), entry.samples) if entry.right else Outcome(math.inf)
        if not self._holds(entry):
            if entry.right and found.score < 1:
                self._hints[choices] = min(found.score, self._hints.get(choices, 1.0))
        elif choices not in self.outcomes:
            self.outcomes[choices] = found
            self.entries.append(entry)
            self.counts["from the log"] += 1

    def _holds(self, entry: Entry) -> bool:
        """Whether its figures are those that a measurement here would give."""
        here = [(w.batch, self.unit) for w in self.work]
        same = not entry.right or [(s.batch, s.unit) for s in entry.samples] == here
        return entry.key == self.key and entry.versions == self.versions and same

    @property
    def _slow(self) -> bool:
        """Whether solving a problem takes far longer here than on the device itself."""
        return self.untuned.kind != "host" or self.request.on is not None

    def _exact(self) -> Engine | None:
        """The solver in float64; None where NumPy cannot hold it."""
        model = self.untuned.folder / self.untuned.model
        try:
            return ReferenceEngine(self.artifact, model, self.request.options, "float64")
        except MemoryError:
            return None


def key_of(request: Request, backend: str) -> Key:
    """What figures for this request hold for."""
    digest = hashlib.sha256(hashlib.sha256(request.model).digest())
    digest.update(json.dumps([request.options, external_digests(request.path, request.model)], sort_keys=True).encode())
    core = request.target.core
    where = core.name if core else processor()
    if request.on is not None:  # which processor that is, nobody here knows
        where = f"{core.name if core else 'another'}+{hashlib.sha256(request.on.encode()).hexdigest()[:16]}"
    return Key(digest.hexdigest(), request.target_name, where, backend)


def _fault(error: Exception) -> _Result:
    found = error.found if isinstance(error, UnfoldcError) else f"{type(error).__name__}: {error}"
    return Outcome(math.inf), (LOST if isinstance(error, DeviceError) else FAILED, found)


def give_back(engine: Engine | None) -> None:
    """Give a device back, for the next to connect; the engine connects again when it is used."""
    release = getattr(engine, "close", None)
    if release is not None:
        release()


def close(engine: Engine | None) -> None:
    """Give back all that an engine holds, which is not used again: a tuning opens hundreds."""
    give_back(engine)
    unload = getattr(engine, "unload", None)
    if unload is not None:
        unload()


def _digest(artifact: Artifact) -> bytes:
    """All that the product is made of."""
    total = hashlib.sha256()
    for name in sorted(artifact.sources):
        total.update(name.encode() + b"\0" + artifact.sources[name].encode() + b"\0")
    for name in sorted(artifact.weights):
        array = artifact.weights[name]
        total.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return total.digest()
