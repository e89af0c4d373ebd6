"""From a traced module to the ONNX model, in memory: tidy, find iterations and states, add iterates, name, assemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from torch import nn

from unfoldc.export.assemble import assemble
from unfoldc.export.iterates import add_iterates
from unfoldc.export.iterations import find_iterations
from unfoldc.export.labels import Labels
from unfoldc.export.listing import Listing
from unfoldc.export.metadata import make_metadata
from unfoldc.export.names import Interface, choose_names
from unfoldc.export.sequences import remove_sequences
from unfoldc.export.states import State, find_states, resolved
from unfoldc.export.tidy import merge_constants, remove_identities, remove_unused, sort_by_part
from unfoldc.export.trace import Traced
from unfoldc.export.transposed import use_transposed


@dataclass(frozen=True)
class Built:
    """The model and what it was made from; `how` says how the iterations were found."""

    model: onnx.ModelProto
    listing: Listing
    labels: Labels
    states: tuple[State, ...]
    iterates: Mapping[str, tuple[str, ...]]
    how: str
    batch_symbol: str


def build(
    module: nn.Module,
    traced: Traced,
    inputs: Sequence[str],
    outputs: Sequence[str],
    iterations: str | int | None,
    iterates: bool,
    opset: int,
    given: Mapping[str, Any],
) -> Built:
    """All steps between tracing and writing, none of which runs the module.

    Raises:
        ExportError: the iterations cannot be found, or what was asked for cannot be given.
    """
    listing = use_transposed(remove_sequences(remove_identities(traced.listing)))
    listing = merge_constants(listing, traced.weights)
    found = find_iterations(listing, module, iterations, traced.calls)
    listing, labels = sort_by_part(*remove_unused(found.listing, found.labels))
    states = resolved(find_states(listing, labels), listing.outputs, outputs)
    added: dict[str, tuple[str, ...]] = {}
    if iterates:
        listing, labels, added = add_iterates(listing, labels, states, outputs)
    further = tuple(name for names in added.values() for name in names)
    interface = Interface(tuple(inputs), (*outputs, *further), traced.batch_symbol)
    names = choose_names(listing, labels, interface, found.path)
    entry = make_metadata(listing, labels, names, states, added, given)
    model = assemble(listing, labels, names, interface, opset, entry)
    return Built(model, listing, labels, states, added, found.how, traced.batch_symbol)
