"""What several commands share: options of a compilation, arrays from and to files, progress, JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unfoldc.commands.progress import status
from unfoldc.errors import InputError, printable

if TYPE_CHECKING:
    import numpy as np

    from unfoldc.runtime.solver import Solver

Subparsers = Any  # argparse keeps this type to itself
NOT_FINITE = 3
"""The exit status of a command that did what it was to do, but whose answer holds NaN or Inf."""


def new_command(
    commands: Subparsers, name: str, run: Callable[[argparse.Namespace], int | None], summary: str, example: str
) -> argparse.ArgumentParser:
    """A sub-command whose help ends with an example."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON on standard output instead of text")


def add_dimensions(parser: argparse.ArgumentParser) -> None:
    """`--batch` and `--dimension`, for models with lengths left open."""
    parser.add_argument("--batch", type=_batch, metavar="N", help="fix the batch (default: dynamic, open to each call)")
    parser.add_argument(
        "--dimension",
        type=_dimension,
        action="append",
        default=[],
        metavar="NAME=N",
        help="give a length that the inputs leave open, such as width=64; may be given again",
    )


def add_compilation(parser: argparse.ArgumentParser) -> None:
    """Everything that `unfoldc.compile` takes."""
    parser.add_argument(
        "--target", help="device to compile for; `unfoldc targets` lists them (default: host, this computer)"
    )
    parser.add_argument(
        "--backend",
        help="c, numba, tvm, cuda, reference (NumPy), onnxruntime or auto: c, on this computer what is measured to be "
        "the fastest, and onnxruntime where the compiler refuses the model (default: auto)",
    )
    parser.add_argument(
        "--provider",
        action="append",
        metavar="NAME",
        help="execution provider of ONNX Runtime, which backend onnxruntime takes (default: CPUExecutionProvider)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads to split a batch over, on this computer; for onnxruntime those of an operation (default: 1)",
    )
    parser.add_argument(
        "--sparse",
        action="store_true",
        help="do not read weights that only zeros of an iterate meet (backend c); time then depends on the data",
    )
    parser.add_argument(
        "--allow-tf32",
        action="store_true",
        help="let cuBLAS round the factors of float32 products to 10 bits (backend cuda)",
    )
    parser.add_argument(
        "--tune",
        type=seconds,
        metavar="SECONDS",
        help="look for a faster schedule on the device itself for so long (backends c, numba, tvm)",
    )
    parser.add_argument(
        "--tune-log",
        metavar="FILE",
        help="with --tune: a file of JSON lines to which measurements are added and from which they are taken",
    )
    parser.add_argument(
        "--on",
        metavar="ADDRESS",
        help="where it runs: ssh://user@host, serial:/dev/ttyACM0, tvm-rpc://host:port, local or qemu (default: here, "
        "or in the emulator that comes with unfoldc)",
    )
    add_dimensions(parser)
    parser.add_argument("--no-cache", action="store_true", help="compile even if the cache has the result")


def open_solver(arguments: argparse.Namespace, symbol: str = "solver") -> Solver:
    """The solver of `arguments.model`: an ONNX file is compiled, a build folder is loaded."""
    from unfoldc import pipeline

    path = Path(arguments.model)
    if path.is_dir():
        _refuse_options(arguments)
        with status() as progress:
            return pipeline.load(
                path, providers=arguments.provider, threads=arguments.threads, on=arguments.on, progress=progress
            )
    with status() as progress:
        solver = pipeline.compile(
            path,
            arguments.target or "host",
            arguments.backend or "auto",
            batch=arguments.batch,
            dimensions=dict(arguments.dimension),
            symbol=symbol,
            cache=not arguments.no_cache,
            progress=progress,
            providers=arguments.provider,
            threads=arguments.threads,
            sparse=arguments.sparse,
            allow_tf32=arguments.allow_tf32,
            tune=arguments.tune,
            tune_log=arguments.tune_log,
            on=arguments.on,
        )
    for note in solver.notes:
        print(f"note: {printable(note, 1000)}", file=sys.stderr)
    return solver


def _refuse_options(arguments: argparse.Namespace) -> None:
    for name in ("target", "backend", "batch", "dimension", "sparse", "allow_tf32", "tune", "tune_log"):
        if getattr(arguments, name):
            raise InputError(
                f"--{name.replace('_', '-')}",
                f"given for {arguments.model}, which is compiled already",
                "an ONNX file with this option, or a build folder without it",
                "Leave it out, or give the ONNX file.",
            )


def read_inputs(solver: Solver, items: list[str]) -> dict[str, Any]:
    """Arrays by input name from `file.npy`, `name=file.npy`, `file.npz`; raises InputError for what cannot be read."""
    names = [port.name for port in solver.inputs]
    found: dict[str, Any] = {}
    for item in items:
        name, _, file = item.rpartition("=")
        if Path(item).is_file():  # a file name may hold a =
            name, file = "", item
        arrays = read_arrays(Path(file))
        if isinstance(arrays, Mapping):
            new: dict[str, Any] = dict(arrays)
            if name:
                raise InputError(f"input {name}", f"{file} holds several arrays", "a .npy file", f"Write {file} alone.")
        else:
            free = [n for n in names if n not in found]
            if not name and not free:
                raise InputError(file, "an array too many", ", ".join(names), "Leave it out.")
            new = {name or free[0]: arrays}
        for key, array in new.items():
            if key in found:
                raise InputError(f"input {key}", f"given again in {file}", "each input once", "Leave one out.")
            found[key] = array
    return found


def read_arrays(path: Path) -> Any:
    """The array of a .npy file, or a dictionary of those of a .npz file; nothing in them is executed."""
    import numpy as np

    from unfoldc.runtime.npz import read_npz

    try:
        if path.suffix == ".npz":
            return read_npz(path)
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise InputError(
            str(path), f"cannot be read ({error.strerror or error})", "a .npy or .npz file", "Check the path."
        ) from None
    except Exception as error:  # NumPy and zipfile raise many kinds for a damaged file
        reason = "it holds Python objects" if "allow_pickle" in str(error) else f"it is damaged ({error})"
        raise InputError(
            str(path), reason, "a .npy or .npz file of numbers", "Write it with numpy.save or numpy.savez."
        ) from None


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write one array to .npy, any number to .npz; aside first, so that no half-written file stays.

    Raises InputError for another ending, several arrays and .npy, and where the file cannot be written.
    """
    import os
    import secrets

    import numpy as np

    from unfoldc.runtime.npz import write_npz

    if path.suffix not in (".npy", ".npz") or (path.suffix == ".npy" and len(arrays) != 1):
        allowed = ".npz" if len(arrays) != 1 else ".npy or .npz"
        raise InputError(
            str(path), f"{len(arrays)} arrays and the ending {path.suffix!r}", allowed, "Choose another file name."
        )
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        if path.suffix == ".npy":
            with partial.open("xb") as file:
                np.save(file, next(iter(arrays.values())), allow_pickle=False)
        else:
            write_npz(partial, arrays)
        partial.replace(path)
    except OSError as error:
        reason = f"it cannot be written ({error.strerror or error})"
        raise InputError(str(path), reason, "a place with room that you may write to", "Choose another.") from None
    finally:
        partial.unlink(missing_ok=True)


def print_json(value: Any) -> None:
    """A JSON document on standard output; text is taken to be JSON already."""
    print(value if isinstance(value, str) else json.dumps(value, indent=1))


def table(rows: list[list[str]], right: tuple[int, ...] = ()) -> str:
    """Rows of text in aligned columns; the columns in `right` are flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def positive(text: str) -> int:
    """A whole number above zero, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return number


def seconds(text: str) -> float:
    """A time above zero, for argparse."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a time above zero")
    return number


def _batch(text: str) -> int | str:
    return text if text == "dynamic" else positive(text)


def _dimension(text: str) -> tuple[str, int]:
    name, equals, length = text.rpartition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=N")
    return name, positive(length)
