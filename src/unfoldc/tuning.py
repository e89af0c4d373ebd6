"""`compile(..., tune=seconds)`: tries other schedules of a compiled solver on its device and keeps the fastest.

Loop programs leave choices open (`kernels.schedule_choices`). The best of those that were tried takes the place of the
untuned solver only if a last run, of both in turn, leaves no doubt that it is faster.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unfoldc.errors import UnfoldcError
from unfoldc.fastest_build import take_over
from unfoldc.kernels.schedule_choices import ScheduleChoices, changes
from unfoldc.one_build import build_one
from unfoldc.request import Request
from unfoldc.runtime.artifact_folder import Build, add_note, replace_texts
from unfoldc.runtime.backends import open_engine
from unfoldc.runtime.contest import Clock
from unfoldc.runtime.profile import duration
from unfoldc.runtime.tuning_measure import INSTRUCTIONS, Sample, confirm, is_faster, margin
from unfoldc.runtime.tuning_search import proposals
from unfoldc.tune_log import append, read_log
from unfoldc.tuning_trials import OutOfTime, Trials, close, key_of

LOG = "tuning.jsonl"
"""The log within a build folder."""

_CONFIRMING = 0.15  # of the time, from one second to five
_SHARES = (0.7, 0.3)  # of that time for the best, and for the second best if the first leaves doubt


@dataclass
class _Search:
    """How a search ended: `complete` where there was nothing left to try."""

    complete: bool = False
    interrupted: bool = False


def tuned(request: Request, untuned: Build, earlier: Build | None = None, clock: Clock = time.perf_counter) -> Build:
    """The build in the folder of `untuned`: the fastest schedule found within `request.tune` seconds, or untuned.

    Its notes say what was found: "tuning" in words, "tuned_seconds", and "schedule", the choices that differ from the
    default. What is measured is in its file `LOG` and in `request.tune_log`, as far as it got when Ctrl-C is pressed.
    """
    begun = clock()
    logs = [*([earlier.folder / LOG] if earlier else []), *([request.tune_log] if request.tune_log else [])]
    request.progress("tuning: looking at the untuned solver")
    trials = Trials(request, untuned, logs, clock)
    confirming = min(1.0 if trials.unit == INSTRUCTIONS else 5.0, max(1.0, _CONFIRMING * request.tune))
    trials.finish = begun + request.tune - confirming
    try:
        end = _search(trials)
        made, text = _winner(trials, untuned, confirming, end)
    finally:
        close(trials.engine)
    spent = float("inf") if end.complete else clock() - begun if end.interrupted else request.tune
    replace_texts(untuned.folder, {LOG: "".join(entry.line for entry in trials.entries)})
    made = add_note(made, "tuning", text)
    return add_note(made, "tuned_seconds", min(spent, 1e9))


def is_enough(request: Request, build: Build) -> bool:
    """Whether a build was tuned for as long as is asked for, and the log that is given knows no more than its own.

    If so, what it knows is added to the log.
    """
    if build.artifact.notes.get("tuned_seconds", 0.0) < request.tune:
        return False
    if request.tune_log is None:
        return True
    key = key_of(request, build.artifact.backend)
    own = [e for e in read_log(build.folder / LOG)[0] if e.key == key]
    given = [e for e in read_log(request.tune_log)[0] if e.key.model == key.model and e.key.backend == key.backend]
    known = {e.line for e in own}
    if any(e.line not in known for e in given):
        return False
    there = {e.line for e in given}
    append(request.tune_log, [e for e in own if e.line not in there])
    return True


def _search(trials: Trials) -> _Search:
    """Tries candidates until there are none left, the time is up, or Ctrl-C is pressed."""
    search = proposals(trials.default, trials.space, trials.first, margin(trials.unit))
    try:
        wanted = next(search)
        while True:
            wanted = search.send(trials.scores(wanted))
    except StopIteration:
        return _Search(complete=True)
    except OutOfTime:
        return _Search()
    except KeyboardInterrupt:
        return _Search(interrupted=True)


def _winner(trials: Trials, untuned: Build, seconds: float, end: _Search) -> tuple[Build, str]:
    """The build that is kept, in the folder of `untuned`, and what is said of it."""
    finalists, tried = trials.ranking[: len(_SHARES)], _tried(trials, end)
    if not finalists:
        return untuned, f"tuning: no schedule was faster than untuned ({tried})"
    found: Sequence[Sample] = ()
    with tempfile.TemporaryDirectory(prefix="unfoldc-tuned-") as folder:
        for number, (choices, share) in enumerate(zip(finalists, _SHARES, strict=False)):
            trials.request.progress("tuning: the best against untuned, once more")
            place = Path(folder) / str(number)
            place.mkdir()
            try:
                made, samples = _confirmed(trials, choices, place, share * seconds)
            except KeyboardInterrupt:
                return untuned, f"tuning: interrupted before the best was confirmed, untuned is kept ({tried})"
            found = found or samples
            if made is not None:
                chosen = ", ".join(f"{n}={v}" for n, v in changes(choices, trials.default).items())
                close(trials.engine)
                return _in_place(made, untuned), f"tuned: {_figures(samples)} ({tried}; {chosen})"
    doubt = f": the best took {_figures(found)}" if found else ""
    return untuned, f"tuning: untuned is kept{doubt} ({tried})"


def _in_place(made: Build, untuned: Build) -> Build:
    """The build in the folder of the untuned one, with the note that choosing the back end left there."""
    take_over(made.folder, untuned.folder)
    made = replace(made, folder=untuned.folder)
    choice = untuned.artifact.notes.get("choice")
    return add_note(made, "choice", choice) if choice else made


def _confirmed(
    trials: Trials, choices: ScheduleChoices, folder: Path, seconds: float
) -> tuple[Build | None, Sequence[Sample]]:
    """The candidate, built anew, if its answers are right and it is faster without doubt; and the figures."""
    engine = None
    try:
        made = build_one(trials.request, trials.compiled(choices), folder)
        engine = open_engine(made, on=trials.request.on)
        if trials.judge.fault(engine):
            return None, ()
        samples = confirm(trials.artifact, trials.engine, engine, trials.work, seconds, trials.clock)
        return (made if is_faster(samples) else None), samples
    except UnfoldcError:  # choices of a log, say, that do not fit the device
        return None, ()
    finally:
        close(engine)


def _figures(samples: Sequence[Sample]) -> str:
    """What tuned takes, and untuned."""
    parts = []
    for s in samples:
        a, b = (duration(v) if s.unit == "s" else f"{v:.0f} {s.unit}" for v in (s.candidate, s.untuned))
        parts.append(f"{a} for {b} untuned{f', {s.batch} problems' if s.batch > 1 else ''}")
    return "; ".join(parts)


def _tried(trials: Trials, end: _Search) -> str:
    counts = [f"{count} {name}" for name, count in sorted(trials.counts.items())]
    how = " until it was interrupted" if end.interrupted else "; nothing left to try" if end.complete else ""
    refused = f"; {trials.refused} lines of the log are not valid" if trials.refused else ""
    return f"schedules: {', '.join(counts) or 'none'}{how}{refused}"
