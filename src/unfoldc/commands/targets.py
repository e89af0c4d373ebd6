"""`unfoldc targets`: the devices that a solver can be compiled for, and what is installed for each."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from unfoldc.commands.common import Subparsers, add_json, new_command, print_json, table

if TYPE_CHECKING:
    from unfoldc.targets import Target


def add(commands: Subparsers) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = new_command(
        commands, "targets", run, "list the devices that a solver can be compiled for", "unfoldc targets"
    )
    add_json(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Print the table."""
    from unfoldc.targets import all_targets

    targets = all_targets()
    if arguments.json:
        print_json([_facts(t) for t in targets])
        return
    rows = [["target", "core", "flash", "RAM", "clock", "build and run", "QEMU", "GNU build", "what it is"]]
    for t in targets:
        clock = f"{t.clock_hz / 1e6:g} MHz" if t.clock_hz else ""
        core = t.core.name if t.core else t.kind
        sizes = ("", "") if t.core and t.core.linux else (_kib(t.spec.flash_bytes), _kib(t.spec.ram_bytes))
        rows.append([t.name, core, *sizes, clock, *_installed(t), t.summary])
    print(table(rows, right=(2, 3, 4)))
    for line in (*_gpu_lines(targets), *_commands(targets)):
        print(line)


def _facts(t: Target) -> dict[str, Any]:
    from unfoldc.targets.tools import debian_command, emulator_tools, gnu_tools, missing_tools

    missing = missing_tools((*emulator_tools(t), *gnu_tools(t)))
    return {
        "name": t.name,
        "kind": t.kind,
        "core": t.core.name if t.core else None,
        "summary": t.summary,
        "source": t.source,
        "flash_bytes": t.spec.flash_bytes,
        "ram_bytes": t.spec.ram_bytes,
        "clock_hz": t.clock_hz,
        "emulator": t.core.emulator if t.core else None,
        "missing_packages": list(t.missing()),
        "install_packages": t.install_command(),
        "missing_tools": list(missing),
        **_gpus(t),
        "install_tools": debian_command(missing),
    }


def _gpus(t: Target) -> dict[str, Any]:
    """The GPUs of a target that is one, and why there are none."""
    if t.kind != "gpu":
        return {}
    from unfoldc.targets.cuda.packages import gpus

    found, reason = gpus()
    return {"gpus": [{**vars(gpu), "usable": gpu.usable} for gpu in found], "why_no_gpu": reason}


def _installed(t: Target) -> list[str]:
    """Whether it can be built and run, whether on QEMU, whether with the GNU compiler."""
    from unfoldc.targets.tools import emulator_tools, gnu_tools, missing_tools

    if t.kind == "gpu":
        runs = any(gpu["usable"] for gpu in _gpus(t)["gpus"])
        return ["no" if t.missing() else "yes" if runs else "build", "", ""]
    qemu = emulator_tools(t)
    runs_on_qemu = t.core is not None and t.core.emulator == "qemu"
    lacks = bool(t.missing()) or (runs_on_qemu and bool(missing_tools(qemu)))
    return [
        "no" if lacks else "yes",
        *("" if not p else "no" if missing_tools(p) else "yes" for p in (qemu, gnu_tools(t))),
    ]


def _gpu_lines(targets: tuple[Target, ...]) -> list[str]:
    """The GPUs that there are, or why there are none."""
    lines = []
    for t in (t for t in targets if t.kind == "gpu"):
        facts = _gpus(t)
        for gpu in facts["gpus"]:
            old = "" if gpu["usable"] else ", too old"
            size = f"{gpu['memory_bytes'] / 2**30:.0f} GiB"
            lines.append(f"{t.name}: {gpu['name']}, compute capability {gpu['architecture'] / 10}, {size}{old}")
        if facts["why_no_gpu"]:
            can = "neither built nor run here" if t.missing() else "built here, but not run"
            lines.append(f"{t.name}: solvers can be {can}: {facts['why_no_gpu']}")
    return lines


def _commands(targets: tuple[Target, ...]) -> list[str]:
    """What installs the rest: one command for packages of Python, one for programs."""
    from unfoldc.targets.description import install_command
    from unfoldc.targets.tools import debian_command, emulator_tools, gnu_tools, missing_tools

    packages = dict.fromkeys(p for t in targets for p in t.missing())
    programs = dict.fromkeys(p for t in targets for p in missing_tools((*emulator_tools(t), *gnu_tools(t))))
    lines = [f"to build and run: {install_command(packages)}"] if packages else []
    return [*lines, f"for QEMU and GNU builds (Debian, Ubuntu): {debian_command(programs)}"] if programs else lines


def _kib(size: int | None) -> str:
    return "" if size is None else f"{size // 1024} KiB"
