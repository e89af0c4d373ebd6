"""`unfoldc export`: a checkpoint to an ONNX file with K layers."""

from __future__ import annotations

import argparse
from typing import Any

from unfoldc.commands.common import Subparsers, add_json, new_command, print_json


def add(commands: Subparsers) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = new_command(
        commands,
        "export",
        run,
        "write the network of a checkpoint as an ONNX file with K layers, and check it against PyTorch",
        "unfoldc export solver.safetensors -o solver.onnx",
    )
    parser.add_argument("checkpoint", help="what `unfoldc train` wrote")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the .onnx file to write")
    parser.add_argument("--iterates", action="store_true", help="add the estimate after each iteration as an output")
    add_json(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Export and say what was found."""
    from unfoldc.export import export_onnx
    from unfoldc.unfold_train import load_checkpoint

    checkpoint = load_checkpoint(arguments.checkpoint)
    network = checkpoint.network.frozen()
    report = export_onnx(
        network,
        tuple(network.example[name] for name in network.inputs),
        arguments.output,
        iterations="iteration",
        iterates=arguments.iterates,
        output_names=["x"],
        metadata={"errors": list(checkpoint.errors)},
    )
    if not arguments.json:
        print(report)
        return
    facts: dict[str, Any] = {
        "file": str(report.path),
        "iterations": report.iterations,
        "found_by": report.found_by,
        "inputs": dict(report.inputs),
        "outputs": dict(report.outputs),
        "states": dict(report.states),
        "stored_bytes": report.stored_bytes,
        "shared_bytes": report.shared_bytes,
        "error": report.error,
        "error_limit": report.error_limit,
    }
    print_json(facts)
