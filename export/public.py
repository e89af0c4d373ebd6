"""`export_onnx`: the whole way from a module to a checked file, as one list of steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from unfoldc.errors import ExportError, InputError, UnfoldcError
from unfoldc.export.build import Built, build
from unfoldc.export.check import Agreement, check_model, compare
from unfoldc.export.evaluation import check_weights, evaluation
from unfoldc.export.examples import Examples, read_examples
from unfoldc.export.iterations import check_path
from unfoldc.export.labels import BEGIN
from unfoldc.export.metadata import given_metadata
from unfoldc.export.names import part_name, type_text
from unfoldc.export.outputs import choose_output_names, flatten
from unfoldc.export.replay import make_iterates
from unfoldc.export.report import ExportReport
from unfoldc.export.tidy import shared_bytes
from unfoldc.export.trace import trace
from unfoldc.export.write import check_target, written_aside

OLDEST_OPSET, NEWEST_OPSET = 18, 25


def export_onnx(
    module: nn.Module,
    example_inputs: Tensor | Sequence[Tensor],
    path: str | Path,
    *,
    iterations: str | int | None = None,
    iterates: bool = False,
    batch: str = "dynamic",
    batch_inputs: Sequence[str | int] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset: int = 20,
    check: bool = True,
    metadata: Mapping[str, Any] | None = None,
) -> ExportReport:
    """Write a module with K iterations to an ONNX file in which every node says to which iteration it belongs.

    The iterations are the items of a ModuleList called in order, or those that the marker `unfoldc.iterate` separates
    in a plain loop. Nodes are named `begin/...`, `iteration.<k>/...`, `end/...`; equal weights are stored once; the
    model's metadata entry `unfoldc` (JSON) holds K, the states' values after each iteration, and more. The module is
    exported in evaluation mode and left as it was. The file appears only once it is complete and checked.

    Args:
        module: any module; its forward takes tensors and returns a tensor, or a tuple or dictionary of tensors.
        example_inputs: a tensor or a tuple of tensors in the order of forward's arguments, `(batch, ...)`.
        path: the file to write; its folder must exist.
        iterations: the path of the ModuleList, or K, or None to find them: the markers, else the ModuleList.
        iterates: add outputs `<output>.iterate.<k>`, the estimate after each iteration, k = 0 .. K-1.
        batch: "dynamic" for a batch of any size, "fixed" for the example's shapes as they are.
        batch_inputs: names or positions of the inputs with the batch on axis 0; by default all that are there as long
            as the first.
        input_names: names of the inputs; by default those of forward's arguments.
        output_names: names of the outputs; by default a dictionary's keys, or `x`.
        opset: version of ONNX's operator set, 18 or later.
        check: compare ONNX Runtime (ONNX's reference evaluator, where that lacks an operator in float64) with PyTorch
            on the example and on fresh random inputs, every iterate included.
        metadata: entries to add to the metadata; they come on top of the module's attribute `unfoldc_metadata`.

    Raises:
        InputError: an argument does not fit.
        ExportError: the module cannot be exported, has no iterations to be found, or its export disagrees with it.
    """
    target = check_target(path)
    _check(module, opset)
    if isinstance(iterations, str):
        check_path(module, iterations)
    examples = read_examples(module, example_inputs, batch, batch_inputs, input_names)
    check_weights(module)
    given = given_metadata(module, metadata)
    with evaluation(module):
        outputs = _run_once(module, examples, output_names)
        traced = trace(module, examples, opset)
        built = build(module, traced, examples.names, outputs, iterations, iterates, opset, given)
        expected = make_iterates(traced.program, built.states, outputs, built.iterates) if iterates else None
        with written_aside(built.model, target) as aside:
            check_model(aside)
            agreement = compare(aside, module, examples, outputs, expected) if check else None
    return _report(target, built, examples, outputs, opset, agreement)


def _check(module: object, opset: int) -> None:
    """Raise InputError for what is no module and for an operator set that is not known."""
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise InputError("opset", str(opset), f"{OLDEST_OPSET} to {NEWEST_OPSET}", "Leave it out for 20.")
    if not isinstance(module, nn.Module):
        raise InputError("module", f"a {type(module).__name__}", "a torch.nn.Module", "Wrap the function in a module.")


def _run_once(module: nn.Module, examples: Examples, names: Sequence[str] | None) -> tuple[str, ...]:
    try:
        answer = module(*(t.clone() for t in examples.tensors))
    except UnfoldcError:
        raise
    except Exception as error:
        raise ExportError(
            f"{type(module).__name__}.forward",
            f"it does not run on the example inputs: {type(error).__name__}: {error}",
            "example inputs that the module accepts as `module(*example_inputs)`",
            f"Check shapes {[tuple(t.shape) for t in examples.tensors]} and types against forward.",
        ) from error
    flatten(answer)
    return choose_output_names(answer, examples.names, names)


def _report(
    path: Path, built: Built, examples: Examples, outputs: Sequence[str], opset: int, agreement: Agreement | None
) -> ExportReport:
    listing, labels = built.listing, built.labels
    types = {v: type_text(listing.types.get(v), built.batch_symbol) for v in listing.types}
    parts = [part_name(label, labels) for label in (BEGIN, *range(labels.count), labels.end)]
    own = [label for op, label in zip(listing.ops, labels.of, strict=True) if not op.group]
    counts = Counter(part_name(label, labels) for label in own)
    stored, apart = shared_bytes(listing, labels)
    return ExportReport(
        path=path,
        iterations=labels.count,
        found_by=built.how,
        states={s.name: next((types[v] for v in reversed(s.values) if v in types), "") for s in built.states},
        nodes={part: counts[part] for part in parts},
        stored_bytes=stored,
        shared_bytes=apart - stored,
        error=agreement.error if agreement else None,
        error_limit=agreement.limit if agreement else None,
        checked_by=agreement.by if agreement else "",
        runs=agreement.runs if agreement else 0,
        iterates_compared=agreement is not None and bool(agreement.iterates),
        opset=opset,
        inputs={n: types.get(v, "") for n, v in zip(examples.names, listing.inputs, strict=True)},
        outputs={n: types.get(v, "") for n, v in zip(outputs, listing.outputs, strict=False)},
        iterates=built.iterates,
    )
