"""The command line, `unfoldc COMMAND ...`.

Exit status 0: done, 1: failed and a paragraph says why, 2: wrong usage, 3: `run` has answers that are not finite, and a
paragraph says which, 130: interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from unfoldc import __version__
from unfoldc.errors import UnfoldcError, printable

# In the order of use; each is a module of unfoldc.commands with add(subparsers), which sets `run`.
COMMANDS = ("demo", "train", "approximate", "export", "inspect", "compile", "run", "profile", "targets")
# Import name -> the extra of this project that brings it.
_EXTRAS = {
    **dict.fromkeys(("onnxruntime", "onnxscript", "PIL", "rich", "safetensors", "skimage", "torch"), "train"),
    "matplotlib": "report",
    "tvm": "tvm",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    parsed = parser().parse_args(arguments)
    try:
        status = int(parsed.run(parsed) or 0)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read our output has gone away, as `| head` does; what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except Exception as error:
        if parsed.debug:
            traceback.print_exc()
        else:
            _say(explanation(error))
        return 1


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="unfoldc",
        description="From an unfolded solver in PyTorch to a program on a device, measured per iteration.",
        epilog="Example: unfoldc compile lista.onnx -o build/lista && unfoldc profile build/lista. "
        "Exit status: 0 done, 1 failed and a paragraph says why, 2 wrong usage, 3 an answer holds NaN or Inf, "
        "130 interrupted.",
    )
    top.add_argument("--version", action="version", version=f"unfoldc {__version__}")
    top.add_argument("--debug", action="store_true", help="print the traceback of an error")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = importlib.import_module(f"unfoldc.commands.{name}").add(commands)
        # Accepted behind the command too; SUPPRESS keeps what was given before it.
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="print tracebacks")
    return top


def explanation(error: Exception) -> str:
    """One paragraph on any error."""
    if isinstance(error, UnfoldcError):
        return str(error)
    if isinstance(error, MemoryError):
        return "memory: there is not enough of it for this model or batch; use a smaller batch, or close other programs"
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] in _EXTRAS:
        package = error.name.partition(".")[0]
        return (
            f"{package}: this command needs it and it is not installed; run pip install 'unfoldc[{_EXTRAS[package]}]'"
        )
    if isinstance(error, OSError):
        place = error.filename if error.filename is not None else "system"
        return f"{place}: {error.strerror or error}; check the path, the permissions and the space on the disk"
    return (
        f"internal error: {type(error).__name__}: {error}; this is a mistake in unfoldc, not in your input. "
        "Run the command again with --debug for the traceback, and report it"
    )


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # standard error may be closed
        print(f"unfoldc: {printable(text, 2000)}", file=sys.stderr)
