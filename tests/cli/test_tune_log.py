"""The log of a tuning: what is written reads back, and what anybody else wrote does no harm."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unfoldc.errors import InputError
from unfoldc.runtime.tuning_measure import Sample
from unfoldc.tune_log import Entry, Key, append, entry_of, read_log

SAMPLE = Sample(1, "s", 1.5e-6, 2e-6, 0.75, 0.7, 0.8, 0.01)
ENTRY = Entry(
    Key("ab" * 32, "host", "x86_64-0123", "c"), {"ziglang": "0.17.0", "unfoldc": "0123"},
    {"rows": 4, "packed": False, "side_by_side": "half"}, (SAMPLE, replace(SAMPLE, batch=64)), True,
)  # fmt: skip
WRONG = replace(ENTRY, samples=(), right=False, reason="wrong answers: it is 2 off")


def fields(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ENTRY.line)
    return found | changes


def figure(**changes: Any) -> list[dict[str, Any]]:
    return [fields()["figures"][0] | changes]


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    log = tmp_path / "new" / "log.jsonl"
    assert read_log(log) == ([], 0)
    append(log, [ENTRY])
    append(log, [WRONG])
    assert read_log(log) == ([ENTRY, WRONG], 0)
    assert [json.loads(line)["right"] for line in log.read_text().splitlines()] == [True, False]


HOSTILE: list[Any] = [
    None, 1, [], "text", {}, fields(format=2), fields(model="../../etc"), fields(model="x" * 300), fields(model=1),
    fields(target="host\x1b[2J"), fields(backend=["c"]), fields(versions=[]), fields(versions={"zig": 1}),
    fields(choices={"rows": 1.5}), fields(choices={"rows": None}), fields(choices={"rows": [1]}),
    fields(choices={"rows": {"a": 1}}), fields(choices={"rows; rm -rf": 1}), fields(choices={"side_by_side": "a b"}),
    fields(choices={f"c{i}": 1 for i in range(99)}), fields(choices=3), fields(right=1), fields(right="yes"),
    fields(figures=[]), fields(figures=[{}] * 3), fields(figures=figure(ratio=0)), fields(figures=figure(ratio=-1)),
    fields(figures=figure(ratio="0.5")), fields(figures=figure(ratio=True)), fields(figures=figure(batch=0)),
    fields(figures=figure(batch=1.0)), fields(figures=figure(unit="s\n")), fields(figures=figure(spread=-1)),
    fields(figures=figure(ratio=10**400)), fields(figures=figure(spread=10**400)),
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_entry_is_left_out(value: Any) -> None:
    assert entry_of(json.dumps(value)) is None


@pytest.mark.parametrize(
    "line",
    [
        "", "{", "not json", "[" * 100_000, "1" * 5000, ENTRY.line[:-20], "\x00\xff",
        ENTRY.line.replace("0.75", "NaN"), ENTRY.line.replace("0.75", "Infinity"), ENTRY.line.replace("0.75", "1e999"),
        ENTRY.line.replace("host", "h" * 100_000), "__import__('os').system('true')",
    ],
    ids=range(12),
)  # fmt: skip
def test_damaged_lines_are_left_out(line: str) -> None:
    assert entry_of(line) is None


def test_a_damaged_log_keeps_its_good_lines(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(ENTRY.line.encode() + b"\xff\xfe{\n\n" + WRONG.line.encode() + ENTRY.line.encode()[:40])
    assert read_log(log) == ([ENTRY, WRONG], 2)
    append(log, [ENTRY])  # not behind the half of a line
    assert read_log(log) == ([ENTRY, WRONG, ENTRY], 2)


def test_names_are_printed_as_text_only() -> None:
    found = entry_of(json.dumps(fields(right=False, figures=[], reason="\x1b[2J\nevil" * 200)))
    assert found is not None and found.reason.isprintable() and len(found.reason) <= 300


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # which would never end
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InputError, match="no file"):
            read_log(path)
        with pytest.raises(InputError, match="no file"):
            append(path, [ENTRY])
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 27)
    with pytest.raises(InputError, match="64 MiB"):
        read_log(tmp_path / "large")
    with pytest.raises(InputError, match="cannot be written"):
        append(tmp_path / "large" / "log", [ENTRY])
