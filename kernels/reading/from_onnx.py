"""ONNX file -> Program, one problem at a time: the batch axis is read as 1 and comes back as an outer loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from unfoldc.errors import ModelError
from unfoldc.kernels.artifact import Port
from unfoldc.kernels.layers import alive, split_into_parts
from unfoldc.kernels.program import Node, Program, Segment, TensorType
from unfoldc.kernels.reading.boundaries import Boundaries, find_boundaries
from unfoldc.kernels.reading.onnx_file import read_model, tensor_array
from unfoldc.kernels.reading.onnx_inputs import read_inputs
from unfoldc.kernels.reading.onnx_metadata import read_metadata, without_iterates
from unfoldc.kernels.reading.onnx_nodes import NodeImporter
from unfoldc.kernels.repetition import find_repetition

REPEATED = "operations that repeat"
SUPPORTED_OPSETS = range(13, 27)
# The version of the functions of the domain `unfoldc` that the compiler knows.
_OWN_VERSION = 1


@dataclass(frozen=True)
class ImportedModel:
    """A program of one problem, its ports as the caller sees them, and what the file says of itself."""

    program: Program
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    batch: int | None
    boundaries: str
    metadata: Mapping[str, Any]


def import_onnx(
    path: Path | str,
    *,
    batch: int | str | None = None,
    dimensions: Mapping[str, int] | None = None,
    batch_size: int = 1,
) -> ImportedModel:
    """Reads a model.

    batch: a number fixes the dynamic leading axis, None or "dynamic" leaves it to each call. dimensions binds other
    dynamic lengths by name. batch_size is the length at which the program's shapes are taken (1: one problem).
    An output is taken for batched where its first axis has that length; whether each problem is solved on its own is
    for `pipeline.load_program` to find out.
    Raises ModelError, which names the place in the file, for whatever is damaged, unknown or not bound.
    """
    where = str(path)
    _check_options(where, batch, dimensions)
    model = read_model(Path(path))
    importer = NodeImporter(where, dimensions=dict(dimensions or {}), batch_size=batch_size, opset=_opset(model, where))
    graph = model.graph
    if graph.sparse_initializer:
        raise ModelError(where, "the model stores sparse tensors", "dense tensors", "Export it without them.")
    for tensor in graph.initializer:
        importer.add_constant(tensor.name, tensor_array(tensor, where), f"tensor {tensor.name!r}")
    importer.functions.update({(f.domain, f.name): f for f in model.functions})
    metadata = read_metadata(model)
    inputs = read_inputs(importer, graph)
    outputs = without_iterates(_output_names(importer, graph), metadata)
    program, boundaries = _build(importer, graph, inputs, outputs)
    ports_in = tuple(_port(importer, name, name, name in importer.batched) for name in inputs)
    ports_out = tuple(_port(importer, name, importer.name(name), bool(importer.batched)) for name in outputs)
    fixed = batch if isinstance(batch, int) and importer.batched else None
    return ImportedModel(program, ports_in, ports_out, fixed, boundaries.source, metadata)


def _check_options(where: str, batch: object, dimensions: Mapping[str, int] | None) -> None:
    if batch not in (None, "dynamic") and not _positive(batch):
        raise ModelError(where, f"batch={batch!r}", 'a positive number, "dynamic" or None', "Change the option.")
    for name, length in (dimensions or {}).items():
        if not _positive(length):
            raise ModelError(where, f"dimensions={{{name!r}: {length!r}}}", "positive lengths", "Change the option.")


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _opset(model: onnx.ModelProto, where: str) -> int:
    versions = [int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(versions) != 1 or versions[0] not in SUPPORTED_OPSETS:
        found = f"operator set {versions[0]}" if len(versions) == 1 else f"{len(versions)} versions of the operator set"
        allowed = f"one of {SUPPORTED_OPSETS.start} to {SUPPORTED_OPSETS.stop - 1}"
        raise ModelError(where, f"it uses {found}", allowed, "Export it with one of those.")
    own = {int(entry.version) for entry in model.opset_import if entry.domain == "unfoldc"}
    if not own <= {_OWN_VERSION}:
        found = f"version {max(own - {_OWN_VERSION})} of the functions of domain 'unfoldc'"
        raise ModelError(where, f"it uses {found}", f"version {_OWN_VERSION}", "Take the unfoldc that exported it.")
    return versions[0]


def _output_names(importer: NodeImporter, graph: onnx.GraphProto) -> tuple[str, ...]:
    names = [o.name for o in graph.output]
    twice = sorted({name for name in names if names.count(name) > 1 or not name})
    if twice:
        raise importer.fail(f"output {twice[0]!r}", "the name is given twice or empty", "names", "Export it again.")
    return tuple(names)


def _port(importer: NodeImporter, name: str, value: str, batched: bool) -> Port:
    t = importer.types[value]
    batched = batched and t.shape[:1] == (importer.batch_size,)
    return Port(name, t.dtype, t.shape[1:] if batched else t.shape, batched)


def _build(
    importer: NodeImporter, graph: onnx.GraphProto, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> tuple[Program, Boundaries]:
    boundaries = find_boundaries(graph.node)
    if not boundaries.source:
        boundaries = _main_loop(importer, graph, boundaries)
    nodes: list[tuple[Node, int | None]] = []
    for position, (proto, label) in enumerate(zip(graph.node, boundaries.labels, strict=True)):
        nodes.extend((node, node.origin.iteration) for node in importer.nodes(proto, position, label))
    for name in outputs:
        if importer.name(name) not in importer.types:
            raise importer.fail(f"output {name!r}", "nothing makes it", "an output of a node", "Export it again.")
        if not importer.types[importer.name(name)].size:
            raise importer.fail(f"output {name!r}", "it has no elements", "outputs of one and more", "Leave it out.")
    results = tuple(importer.name(name) for name in outputs)
    nodes = alive(nodes, results)
    if all(label is None for _, label in nodes):
        nodes, boundaries = _repeated(nodes, importer.types, results, boundaries)
    begin, layers, end = split_into_parts(nodes)
    program = Program(
        inputs=inputs,
        outputs=results,
        types=dict(importer.types),
        constants=dict(importer.constants),
        begin=tuple(begin),
        segments=tuple(Segment(k, 1, tuple(layer)) for k, layer in enumerate(layers)),
        end=tuple(end),
        output_names=outputs,
        guessed=boundaries.source == REPEATED,
    )
    used = {i for n in program.nodes() for i in n.inputs} | set(results)
    constants = {k: v for k, v in program.constants.items() if k in used}
    return replace(program, constants=constants), boundaries


def _main_loop(importer: NodeImporter, graph: onnx.GraphProto, boundaries: Boundaries) -> Boundaries:
    """Chooses the loop whose trips are the iterations: the one with the largest body."""
    loops = [(position, n) for position, n in enumerate(graph.node) if n.op_type in ("Loop", "Scan") and not n.domain]
    if not loops:
        return boundaries
    position, loop = max(loops, key=lambda p: max((len(a.g.node) for a in p[1].attribute), default=0))
    importer.main_loop = loop.name or f"node {position}"
    return replace(boundaries, source=f"the trips of the {loop.op_type} {importer.main_loop!r}")


def _repeated(
    nodes: list[tuple[Node, int | None]],
    types: Mapping[str, TensorType],
    outputs: Sequence[str],
    boundaries: Boundaries,
) -> tuple[list[tuple[Node, int | None]], Boundaries]:
    """Labels the nodes of a model that says nothing of its iterations, where its operations repeat."""
    labels = find_repetition([node for node, _ in nodes], types, outputs)
    if all(label is None for label in labels):
        return nodes, boundaries
    found = [
        (replace(node, origin=replace(node.origin, iteration=label)), label)
        for (node, _), label in zip(nodes, labels, strict=True)
    ]
    return found, replace(boundaries, source=REPEATED)
