"""`unfoldc inspect`: what the compiler sees in a model."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unfoldc.commands.common import Subparsers, add_dimensions, add_json, new_command, print_json
from unfoldc.dimensions import check_dimensions
from unfoldc.errors import InputError, ModelError, UnfoldcError, printable

if TYPE_CHECKING:
    from unfoldc.kernels.inspect import Inspection
    from unfoldc.kernels.split_onnx.inspect import SplitInspection


def add(commands: Subparsers) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = new_command(
        commands,
        "inspect",
        run,
        "show the iterations of a model: what rolled and what not and why, state, shared weights, flops and bytes",
        "unfoldc inspect lista.onnx",
    )
    parser.add_argument("model", nargs="?", help="an ONNX file")
    parser.add_argument("--operators", action="store_true", help="list the ONNX operators that the compiler knows")
    parser.add_argument(
        "--backend",
        choices=("auto", "onnxruntime"),
        default="auto",
        help="onnxruntime: the parts that ONNX Runtime would run; auto shows them where the compiler refuses the model "
        "(default: auto)",
    )
    add_dimensions(parser)
    add_json(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Print the table."""
    if arguments.operators:
        from unfoldc.kernels.inspect import operator_names

        names = operator_names()
        print_json(names) if arguments.json else print("\n".join(names))
        return
    if arguments.model is None:
        raise InputError("inspect", "no model", "an ONNX file, or --operators", "Write unfoldc inspect model.onnx.")
    found = _described(arguments)
    size = _file_bytes(arguments.model)
    if arguments.json:
        print_json({**json.loads(found.to_json()), "file_bytes": size})
        return
    # Names in the file are untrusted: none of their characters may steer the terminal.
    for line in str(found).split("\n"):
        print(printable(_weights(found, size) if line.startswith("  weights ") else line))


def _file_bytes(path: str) -> int:
    """Bytes of the constants in the file, each once: what `unfoldc export` says that it has stored."""
    from onnx.helper import tensor_dtype_to_np_dtype

    from unfoldc.kernels.reading.onnx_file import read_model

    graph = read_model(Path(path)).graph
    made = [a.t for node in graph.node if node.op_type == "Constant" for a in node.attribute if a.name == "value"]
    return sum(math.prod(t.dims) * tensor_dtype_to_np_dtype(t.data_type).itemsize for t in (*graph.initializer, *made))


def _weights(found: Inspection | SplitInspection, size: int) -> str:
    """The line of the weights, with those of the file before what becomes of them."""
    if hasattr(found, "constant_bytes"):
        return f"  weights  {size} bytes in the file, {found.constant_bytes} in the models that ONNX Runtime runs"
    copies, kept = found.weight_bytes, found.stored_bytes
    return f"  weights  {size} bytes in the file, {kept} as they are compiled ({copies} with a copy for each iteration)"


def _described(arguments: argparse.Namespace) -> Inspection | SplitInspection:
    """What the compiler sees; what ONNX Runtime would run where the compiler refuses the model."""
    from unfoldc.kernels.inspect import describe
    from unfoldc.runtime.backends import fallback

    check_dimensions(arguments.model, dict(arguments.dimension))
    options = {"batch": arguments.batch, "dimensions": dict(arguments.dimension)}
    if arguments.backend == "onnxruntime":
        return _split(arguments.model, options)
    try:
        return describe(arguments.model, **options)
    except ModelError as refusal:
        if not fallback("host"):
            raise
        try:
            found = _split(arguments.model, options)
        except UnfoldcError:
            raise refusal from None
        note = f"the compiler refuses the model ({refusal.where}: {refusal.found}); onnxruntime runs it like this"
        print(f"note: {printable(note, 1000)}", file=sys.stderr)
        return found


def _split(model: str, options: dict[str, Any]) -> SplitInspection:
    from unfoldc.kernels.split_onnx.inspect import describe_split
    from unfoldc.runtime.backends import choose
    from unfoldc.runtime.onnxruntime_tools import split_tools

    choose("onnxruntime", "host", "host")  # says what is missing
    return describe_split(model, **options, tools=split_tools())
