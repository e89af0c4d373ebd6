"""`unfoldc targets`: the devices that a solver can be compiled for."""

from __future__ import annotations

import argparse

from unfoldc.commands.common import Subparsers, add_json, new_command, print_json, table


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
        print_json(
            [
                {
                    "name": t.name,
                    "kind": t.kind,
                    "summary": t.summary,
                    "flash_bytes": t.spec.flash_bytes,
                    "ram_bytes": t.spec.ram_bytes,
                    "clock_hz": t.clock_hz,
                    "missing_packages": list(t.missing()),
                }
                for t in targets
            ]
        )
        return
    rows = [["target", "kind", "flash", "RAM", "clock", ""]]
    for t in targets:
        clock = f"{t.clock_hz / 1e6:g} MHz" if t.clock_hz else ""
        rows.append([t.name, t.kind, _kib(t.spec.flash_bytes), _kib(t.spec.ram_bytes), clock, t.summary])
    print(table(rows, right=(2, 3, 4)))
    for t in targets:
        if t.missing():
            print(f"{t.name} needs {', '.join(t.missing())}: {t.install_command()}")


def _kib(size: int | None) -> str:
    return "" if size is None else f"{size // 1024} KiB"
