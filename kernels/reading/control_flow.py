"""If, Loop, Scan and model-local functions: graphs inside a graph, read in place while the model is imported.

An `If` must have a constant condition; a `Loop` or `Scan` must run a number of times that is known when the model is
read. Its trips become a sequence of alike nodes, which the passes roll into a loop again; the trips of the one loop
that a model consists of are the solver's iterations. Functions of the domain `unfoldc` never come here: they are
operators of the compiler's own, whatever body a file gives them (`onnx_nodes.NodeImporter.own`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import AttributeProto

from unfoldc.errors import ModelError
from unfoldc.kernels.expansions import Call, Maker
from unfoldc.kernels.expansions.pieces import stacked
from unfoldc.kernels.program import Node, Origin
from unfoldc.kernels.reading.onnx_file import tensor_array

CONTROL_FLOW = ("If", "Loop", "Scan")
_MOST_NODES = 20_000
_DEEPEST = 32
_UNROLLED = "a number of trips that is known when the model is read"


class Importer(Protocol):
    """What control flow needs of the import."""

    where: str
    opset: int
    prefix: str
    scopes: list[dict[str, str]]
    alias: dict[str, str]
    constants: dict[str, np.ndarray]
    node_count: int

    def name(self, value: str) -> str:
        """The value behind a name."""

    def define(self, value: str) -> str:
        """The name of a new value."""

    def add_constant(self, name: str, value: np.ndarray, place: str) -> None:
        """Takes in a constant."""

    def nodes(self, proto: onnx.NodeProto, position: int, iteration: int | None) -> list[Node]:
        """The nodes of an ONNX node."""

    def fail(self, place: str, found: str, allowed: str, do: str) -> ModelError:
        """The error to raise."""

    def maker(self, call: Call, origin: Origin, place: str) -> tuple[Maker, list[Node]]:
        """What makes nodes, and the list in which they are found."""


@dataclass
class Inner:
    """One use of a graph inside another node. `iterations` says that its trips are the solver's iterations."""

    importer: Importer
    proto: onnx.NodeProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    label: str
    place: str
    iteration: int | None
    iterations: bool = False

    def expand(self) -> list[Node]:
        """The nodes of all trips, or of the branch."""
        if len(self.importer.scopes) > _DEEPEST:
            raise self._fail("graphs inside graphs too deep", f"at most {_DEEPEST} levels")
        kinds: Mapping[str, Callable[[], list[Node]]] = {"If": self._branch, "Loop": self._loop, "Scan": self._scan}
        return kinds[self.proto.op_type]()

    def _fail(self, found: str, allowed: str) -> ModelError:
        return self.importer.fail(self.place, found, allowed, "Export the solver with a fixed number of iterations.")

    def _graph(self, name: str) -> onnx.GraphProto:
        graph: onnx.GraphProto = next(a.g for a in self.proto.attribute if a.name == name)
        return graph

    def _run(
        self, graph: onnx.GraphProto, arguments: Sequence[str], prefix: str, iteration: int | None
    ) -> tuple[list[Node], list[str]]:
        """The nodes of one pass through a graph, and the values that stand for its outputs."""
        if len(graph.input) != len(arguments):
            raise self._fail(f"its graph takes {len(graph.input)} values, not {len(arguments)}", "graphs that fit")
        scope = dict(zip((v.name for v in graph.input), arguments, strict=True))
        return run_inside(
            self.importer, graph.node, graph.initializer, scope, [o.name for o in graph.output], prefix, iteration
        )

    def _known(self, value: str, what: str) -> np.ndarray:
        """The content of a value that decides how often the graph runs."""
        found = self.importer.constants.get(value)
        if found is None or found.size != 1:
            raise self._fail(f"{what} ({value!r}) is computed at run time", _UNROLLED)
        return found

    def _branch(self) -> list[Node]:
        """The branch that a constant condition chooses."""
        taken = bool(self._known(self.inputs[0], "its condition").item())
        name = "then_branch" if taken else "else_branch"
        nodes, results = self._run(self._graph(name), (), f"{self.label}/", self.iteration)
        self._hand_out(results)
        return nodes

    def _loop(self) -> list[Node]:
        """Trips while the count is not reached and the condition holds; both must be known."""
        inputs = (*self.inputs, *[""] * (2 - len(self.inputs)))
        most = int(self._known(inputs[0], "the number of trips").item()) if inputs[0] else None
        going = not inputs[1] or bool(self._known(inputs[1], "its condition").item())
        if most is None and not inputs[1]:
            raise self._fail("it has neither a number of trips nor a condition", _UNROLLED)
        body, carried, made, trip = self._graph("body"), list(inputs[2:]), [], 0
        scans: list[list[str]] = [[] for _ in body.output[1 + len(carried) :]]
        condition = inputs[1] or self._constant(np.array(True), "condition")
        while going and (most is None or trip < most):
            self.importer.node_count += len(body.node) + 1
            if self.importer.node_count > _MOST_NODES:
                raise self._fail(f"it still runs after {trip} trips", f"loops of at most {_MOST_NODES} nodes in all")
            number = self._constant(np.array(trip, np.int64), f"trip {trip}")
            nodes, results = self._run(
                body,
                (number, condition, *carried),
                f"{self.label}/{trip}/",
                trip if self.iterations else self.iteration,
            )
            made += nodes
            condition, carried = results[0], results[1 : 1 + len(carried)]
            for values, value in zip(scans, results[1 + len(carried) :], strict=True):
                values.append(value)
            trip += 1
            going = bool(self._known(condition, "its condition").item())
        return made + self._finish(carried, scans, [0] * len(scans))

    def _scan(self) -> list[Node]:
        """One trip for each slice of the scanned inputs."""
        given: dict[str, Any] = {a.name: list(a.ints) if a.ints else a.i for a in self.proto.attribute}
        count, body = int(given["num_scan_inputs"]), self._graph("body")
        carried, scanned = list(self.inputs[: len(self.inputs) - count]), self.inputs[len(self.inputs) - count :]
        outputs = len(body.output) - len(carried)
        maker, made = self._maker()
        axes = [
            a % len(maker.type(x).shape)
            for a, x in zip(given.get("scan_input_axes") or [0] * count, scanned, strict=True)
        ]
        backwards = given.get("scan_input_directions") or [0] * count
        trips = {maker.type(x).shape[a] for a, x in zip(axes, scanned, strict=True)}
        if len(trips) != 1:
            raise self._fail("the scanned inputs differ in length", "inputs of one length")
        n = trips.pop()
        self.importer.node_count += n * (len(body.node) + count)
        if self.importer.node_count > _MOST_NODES:
            raise self._fail(f"it runs {n} times", f"loops of at most {_MOST_NODES} nodes in all")
        scans: list[list[str]] = [[] for _ in range(outputs)]
        for trip in range(n):
            slicer, slices = self._maker(trip if self.iterations else self.iteration)
            parts = [
                slicer.node("Gather", x, slicer.tensor(np.array(n - 1 - trip if back else trip)), axis=axis)
                for x, axis, back in zip(scanned, axes, backwards, strict=True)
            ]
            label = trip if self.iterations else self.iteration
            nodes, results = self._run(body, (*carried, *parts), f"{self.label}/{trip}/", label)
            made += [*slices, *nodes]
            carried = results[: len(carried)]
            for values, value in zip(scans, results[len(carried) :], strict=True):
                values.append(value)
        flips = given.get("scan_output_directions") or [0] * outputs
        scans = [values[::-1] if flip else values for values, flip in zip(scans, flips, strict=True)]
        return made + self._finish(carried, scans, given.get("scan_output_axes") or [0] * outputs)

    def _finish(self, carried: Sequence[str], scans: Sequence[Sequence[str]], axes: Sequence[int]) -> list[Node]:
        """Stacks what each trip put out, along a new axis."""
        maker, made = self._maker()
        stacks = []
        for values, axis in zip(scans, axes, strict=True):
            if not values:
                raise self._fail("it never runs, so that a result has no elements", "at least one trip")
            stacks.append(stacked(maker, values, axis))
        self._hand_out([*carried, *stacks])
        return made

    def _maker(self, iteration: int | None = None) -> tuple[Maker, list[Node]]:
        call = Call(self.proto.op_type, self.inputs, self.outputs, {}, self.importer.opset)
        origin = Origin(self.label, self.proto.op_type, self.iteration if iteration is None else iteration)
        return self.importer.maker(call, origin, self.place)

    def _constant(self, value: np.ndarray, what: str) -> str:
        maker, _ = self._maker()
        return maker.tensor(value)

    def _hand_out(self, results: Sequence[str]) -> None:
        for name, result in zip(self.outputs, results, strict=False):
            if name:
                self.importer.alias[name] = result


def run_inside(
    importer: Importer,
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[onnx.TensorProto],
    scope: dict[str, str],
    outputs: Sequence[str],
    prefix: str,
    iteration: int | None,
) -> tuple[list[Node], list[str]]:
    """Reads nodes whose names have a meaning of their own; returns what they became and the values of `outputs`."""
    before, importer.prefix = importer.prefix, prefix
    importer.scopes.append(scope)
    try:
        for tensor in initializers:
            name = importer.define(tensor.name)
            importer.add_constant(name, tensor_array(tensor, importer.where), f"tensor {tensor.name!r}")
        made = [n for position, proto in enumerate(nodes) for n in importer.nodes(proto, position, iteration)]
        return made, [importer.name(name) for name in outputs]
    finally:
        importer.scopes.pop()
        importer.prefix = before


def inline_function(
    importer: Importer,
    function: onnx.FunctionProto,
    proto: onnx.NodeProto,
    call: Call,
    label: str,
    iteration: int | None,
) -> tuple[list[Node], list[str]]:
    """The nodes of a model-local function at one of its calls, and the values of its outputs."""
    place = f"{label} ({proto.op_type})"
    if len(importer.scopes) > _DEEPEST:
        raise importer.fail(
            place, "functions inside functions too deep", f"at most {_DEEPEST} levels", "Check the file."
        )
    importer.node_count += len(function.node) + 1
    if importer.node_count > _MOST_NODES:
        found = "functions that call functions make too many nodes"
        raise importer.fail(place, found, f"at most {_MOST_NODES} nodes from functions and loops", "Check the file.")
    if len(call.inputs) > len(function.input):
        found = f"it has {len(call.inputs)} inputs, the function takes {len(function.input)}"
        raise importer.fail(place, found, "calls that fit", "Export it again.")
    given = {a.name: a for a in function.attribute_proto} | {a.name: a for a in proto.attribute}
    scope = dict(zip(function.input, (*call.inputs, *[""] * len(function.input)), strict=False))
    versions = {entry.domain: entry.version for entry in function.opset_import}
    before, importer.opset = importer.opset, int(versions.get("", versions.get("ai.onnx", importer.opset)))
    try:
        nodes = [_with_attributes(n, given) for n in function.node]
        return run_inside(importer, nodes, (), scope, list(function.output), f"{label}/", iteration)
    finally:
        importer.opset = before


def _with_attributes(node: onnx.NodeProto, given: Mapping[str, AttributeProto]) -> onnx.NodeProto:
    """The node with the attributes that refer to the call's filled in; those that the call leaves out go."""
    if not any(a.ref_attr_name for a in node.attribute):
        return node
    result = onnx.NodeProto()
    result.CopyFrom(node)
    del result.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            result.attribute.append(attribute)
        elif attribute.ref_attr_name in given:
            filled = onnx.AttributeProto()
            filled.CopyFrom(given[attribute.ref_attr_name])
            filled.name = attribute.name
            result.attribute.append(filled)
    return result
