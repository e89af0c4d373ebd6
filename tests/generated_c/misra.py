"""What cppcheck's MISRA addon reports on generated C, and the table of `docs/generated_c.md` that is made of it.

`PYTHONPATH=tests .venv/bin/python -m generated_c.misra --write` writes the table anew.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from generated_c.programs import METAL, operator_programs, solver_program
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets import find_target
from unfoldc.targets.firmware_sources import main_source

SOLVERS = ("conjugate_gradient", "middle_differs")
DOCUMENT = Path(__file__).parents[2] / "docs" / "generated_c.md"
START, END = "<!-- made by tests/generated_c/misra.py -->", "<!-- end -->"

# The rule's number, what it is about in our words, and why the deviation stays.
ARGUMENTS: Mapping[str, tuple[str, str]] = {
    "8.7": (
        "a function with external linkage is used in one file only",
        "The start-up file offers each part of the solver as a function without arguments, for a debugger or an "
        "emulator to call by name. A product has its own `main` and drops them.",
    ),
    "8.11": (
        "an external array is declared without its size",
        "The linker script places these symbols; they have addresses and no size.",
    ),
    "8.14": (
        "`restrict` is used",
        "Each array of a function is reached through one pointer, made there from a member of the state, and scratch "
        "arrays that share memory go without the qualifier. Without it a compiler must load every operand again after "
        "every store. The header says that the caller's arrays must not overlap.",
    ),
    "11.4": (
        "an integer becomes a pointer",
        "The start-up code switches the floating-point unit on by its register, which has a fixed address.",
    ),
    "12.1": (
        "operands of different precedence without brackets",
        "They have brackets: cppcheck overlooks those between `?` and `:`.",
    ),
    "19.2": (
        "`union` is used",
        "`exp`, `tanh` and `erf` read and make the bits of a number through one, as C99 defines it. The other ways are "
        "a pointer of the wrong type, which is undefined, and `memcpy`, which is a call where nothing is optimised.",
    ),
    "20.7": (
        "a macro's parameter without brackets",
        "The macro that loads several numbers by one instruction declares them: its parameters are parts of names.",
    ),
    "20.10": (
        "`##` is used",
        "The same macro makes the names of the numbers that it loads.",
    ),
    "21.2": (
        "a name of the standard library is declared",
        "Compilers without a C library have no `<math.h>`. The functions are the standard's, declared as there, and "
        "only those that the solver calls.",
    ),
}
_TITLES = {"solver": "places in solvers", "start": "places in start-up code"}


def report() -> dict[str, Counter[str]]:
    """Rule -> number of places in the solvers and in the start-up code around them.

    The programs are small whole solvers, each checked together with its start-up code, and one for each operator.
    """
    found: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in SOLVERS:
            artifact = solver_program(name, METAL).artifact
            for rule, part in check(artifact, Path(folder)):
                found.setdefault(rule, Counter())[part] += 1
        operators = [program.artifact for _, program in operator_programs(METAL)]
        joined = "".join(f'#include "{a.symbol}.c"\n#include "{a.symbol}_weights.c"\n' for a in operators)
        for artifact in operators:
            _write(artifact, Path(folder))
        (Path(folder) / "operators.c").write_text(joined)
        for rule, _ in _run(["operators.c"], Path(folder)):
            # A function of the interface is used by nobody here, and what several solvers declare is declared again.
            if rule not in ("8.7", "8.5"):
                found.setdefault(rule, Counter())["solver"] += 1
    return found


def check(artifact: Artifact, folder: Path) -> list[tuple[str, str]]:
    """Rule and part, "solver" or "start", of each place that cppcheck names."""
    _write(artifact, folder)
    main = f"{artifact.symbol}_main.c"
    (folder / main).write_text(main_source(artifact, find_target(METAL)))
    return _run([f"{artifact.symbol}.c", f"{artifact.symbol}_weights.c", main], folder)


def _write(artifact: Artifact, folder: Path) -> None:
    for name, text in artifact.sources.items():
        (folder / name).write_text(text)


def _run(files: list[str], folder: Path) -> list[tuple[str, str]]:
    options = ["--addon=misra", "--std=c99", "--enable=all", "--suppress=missingIncludeSystem", "--quiet"]
    done = subprocess.run(
        ["cppcheck", *options, "--template={file}:{line}:{id}", *files], cwd=folder, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    every = re.findall(r"^(\S+?):(\d+):misra-c2012-([\d.]+)$", done.stderr, re.M)
    return [(rule, "start" if file.endswith("_main.c") else "solver") for file, _, rule in every]


def table(found: Mapping[str, Counter[str]]) -> str:
    """The Markdown table, one row for each rule reported."""
    lines = [f"| rule | about | {' | '.join(_TITLES.values())} | why it stays |", "|---|---|---|---|---|"]
    for rule in sorted(found, key=lambda r: [int(n) for n in r.split(".")]):
        about, why = ARGUMENTS.get(rule, ("", ""))
        lines.append(f"| {rule} | {about} | {' | '.join(str(found[rule][part]) for part in _TITLES)} | {why} |")
    return "\n".join(lines)


def why_not() -> str:
    """Why cppcheck cannot be asked here; empty if it can. Other versions see other places."""
    if shutil.which("cppcheck") is None:
        return "cppcheck is not installed (continuous integration installs it)"
    if version() not in DOCUMENT.read_text():
        return f"the table was made by another version than {version()}"
    return ""


def version() -> str:
    """The name and version of cppcheck, as it gives them."""
    return subprocess.run(["cppcheck", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def documented() -> set[str]:
    """The rules in the document's table."""
    text = DOCUMENT.read_text().split(START)[1].split(END)[0]
    return set(re.findall(r"^\| (\d+\.\d+) \|", text, re.M))


def main() -> None:
    """Print the table, or write it into the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into docs/generated_c.md")
    made = table(report())
    if not parser.parse_args().write:
        print(made)
        return
    before, rest = DOCUMENT.read_text().split(START)
    DOCUMENT.write_text(f"{before}{START}\n\nBy {version()}.\n\n{made}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
