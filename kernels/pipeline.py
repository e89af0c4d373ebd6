"""The compiler from end to end: one visible list of passes, then loops, then text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unfoldc.errors import InputError, ModelError
from unfoldc.kernels.artifact import Artifact, MemoryPlan, Port
from unfoldc.kernels.check_batch import STRUCTURE, coupled
from unfoldc.kernels.cost import cost
from unfoldc.kernels.element_types import ELEMENT_TYPES
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.doubt_guesses import doubt_guesses
from unfoldc.kernels.passes.find_streams import port_streams
from unfoldc.kernels.passes.fold_constants import fold_constants
from unfoldc.kernels.passes.fuse import stored_values
from unfoldc.kernels.passes.hoist_invariants import hoist_invariants
from unfoldc.kernels.passes.recognise_structure import recognise_structure
from unfoldc.kernels.passes.remove_dead import remove_dead
from unfoldc.kernels.passes.repeat_nests import repeat_nests
from unfoldc.kernels.passes.roll_iterations import roll_iterations
from unfoldc.kernels.passes.share_weights import share_weights
from unfoldc.kernels.passes.stack_histories import stack_histories
from unfoldc.kernels.passes.thread_states import Run, thread_states
from unfoldc.kernels.print_sources import printed_for_gpu, printed_for_processor
from unfoldc.kernels.printers.c_api import HOST_ALIGNMENT, state_layout
from unfoldc.kernels.program import Program
from unfoldc.kernels.reading.from_onnx import ImportedModel, import_onnx
from unfoldc.kernels.schedule_choices import ScheduleChoices, changes, default_for
from unfoldc.kernels.split_onnx.artifact import compile_split
from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.kernels.verify import verify_program

# A model is read for so many problems to see whether it treats them one by one; 7 find what only some of them meet.
_BATCHES = (2, 7)

BACKENDS = ("c", "numba", "tvm", "reference", "onnxruntime", "cuda")

# In this order: folding first would destroy the likeness of the layers.
PASSES: tuple[Callable[[Program], Program], ...] = (
    share_weights,
    roll_iterations,
    stack_histories,
    doubt_guesses,
    fold_constants,
    recognise_structure,
    hoist_invariants,
    remove_dead,
)


def optimise(program: Program, verify: bool = False) -> Program:
    """Runs the passes; with `verify` the result of each is checked, and a ValueError names the pass that broke it."""
    for pass_ in PASSES:
        program = pass_(program)
        if verify:
            verify_program(program, after=pass_.__name__)
    return program


def load_program(
    path: Path | str, batch: int | str | None = None, dimensions: Mapping[str, int] | None = None
) -> tuple[ImportedModel, Program]:
    """The imported model and its optimised program of one problem.

    A model that couples the problems of a batch is compiled for the fixed number of problems `batch`, as one problem;
    raises ModelError if that number is left open.
    """
    try:
        return _load(path, batch, dimensions)
    except (RecursionError, MemoryError):
        raise ModelError(
            str(path), "its operations nest too deep or its values are too large", "a solver", "Check the export."
        ) from None


def _load(
    path: Path | str, batch: int | str | None, dimensions: Mapping[str, int] | None
) -> tuple[ImportedModel, Program]:
    model = import_onnx(path, batch=batch, dimensions=dimensions)
    program = optimise(model.program)
    _check_types(str(path), program)
    if not any(port.batched for port in model.inputs):
        return model, program
    reason, outputs = "", model.outputs
    for problems in _BATCHES:
        try:
            several = import_onnx(path, batch=batch, dimensions=dimensions, batch_size=problems)
        except ModelError as error:
            reason = reason or f"for {problems} problems, {error.found}"
            continue
        reason = reason or _coupling(several.program, model.program, program, problems)
        reason = reason or _misplaced(model, several, problems)
        outputs = _output_ports(model, several)
    if not reason:
        return replace(model, outputs=outputs), program
    if not isinstance(batch, int):
        raise ModelError(
            str(path),
            f"the model couples the problems of a batch: {reason}",
            "models that treat each problem on its own, or a fixed number of problems",
            "Compile with batch=N, or export with a fixed batch.",
        )
    model = import_onnx(path, batch=batch, dimensions=dimensions, batch_size=batch)
    together = replace(model, inputs=_joined(model.inputs, batch), outputs=_joined(model.outputs, batch), batch=None)
    return together, optimise(model.program)


def _check_types(where: str, program: Program) -> None:
    """Raises ModelError for values of a type that only constants may have."""
    run_types = tuple(ELEMENT_TYPES.values())
    for node in program.nodes():
        for name in (*node.inputs, *node.outputs):
            if name and program.types[name].dtype not in run_types:
                found, allowed = f"it computes with {program.types[name].dtype} at run time", ", ".join(run_types)
                raise ModelError(f"{where}: {node.origin}", found, allowed, "Cast to int32 before it.")


def _coupling(several: Program, one: Program, optimised: Program, problems: int) -> str:
    reason = _coupled(optimise(several), optimised, problems)
    if reason:  # perhaps the two rolled differently: a first state without a batch axis has the shape of one problem
        reason = _coupled(_at_once(several), _at_once(one), problems)
    return reason


def _coupled(several: Program, one: Program, problems: int) -> str:
    if _skeleton(several) != _skeleton(one):
        return STRUCTURE
    stored = stored_values(one)
    return coupled(lower(several, stored), lower(one, stored), problems)


def _misplaced(one: ImportedModel, several: ImportedModel, problems: int) -> str:
    """Why an output cannot be one answer per problem, stacked along the first axis; empty if it can."""
    for port, name, other in zip(one.outputs, one.program.outputs, several.program.outputs, strict=True):
        single, shape = one.program.types[name].shape, several.program.types[other].shape
        if shape not in (single, (problems, *single[1:])):
            return f"output {port.name!r} has shape {list(shape)} for {problems} problems, {list(single)} for one"
    return ""


def _skeleton(program: Program) -> list[object]:
    """What two programs must have in common for their loops to be compared; names come from the file."""
    nodes = [(node.operator, node.outputs) for node in program.nodes()]
    return [nodes, [(s.first, s.count, s.carried, s.kept) for s in program.segments], [s.name for s in program.states]]


def _at_once(program: Program) -> Program:
    """All of it as one iteration: guesses at the iterations may differ from one number of problems to another."""
    whole = program.in_one()
    return remove_dead(fold_constants(thread_states(whole, list(map(Run.alone, whole.segments)))))


def _output_ports(one: ImportedModel, two: ImportedModel) -> tuple[Port, ...]:
    """The outputs of one problem; those that are as large for two problems are shared by all."""
    shapes = [tuple(model.program.types[name].shape for name in model.program.outputs) for model in (one, two)]
    return tuple(
        replace(port, shape=single, batched=False) if single == double else port
        for port, single, double in zip(one.outputs, *shapes, strict=True)
    )


def _joined(ports: Sequence[Port], batch: int) -> tuple[Port, ...]:
    """The ports of one program for all problems of a batch."""
    return tuple(replace(p, shape=(batch, *p.shape), batched=False) if p.batched else p for p in ports)


def compile_onnx(
    path: Path | str,
    spec: TargetSpec,
    backend: str,
    symbol: str = "solver",
    batch: int | str | None = None,
    dimensions: Mapping[str, int] | None = None,
    host: bool | None = None,
    sparse: bool = False,
    allow_tf32: bool = False,
) -> Artifact:
    """Compiles a model for a target; `host` adds the driver that this machine's loader calls (default: spec is "host").

    `sparse` skips what a zero of an iterate would be multiplied by; the time then depends on the data. `allow_tf32`
    lets products of matrices on a GPU round their factors to 10 bits.
    Raises ModelError for the file, InputError for an option.
    """
    check_symbol(symbol)
    if backend not in BACKENDS:
        raise InputError("compile", f"back end {backend!r}", ", ".join(BACKENDS), "Choose one of those.")
    if sparse and backend != "c":
        raise InputError("compile", f"sparse with back end {backend!r}", "back end c", "Leave one of them out.")
    if backend == "onnxruntime":
        return compile_split(path, spec, symbol, batch, dimensions)
    model, program = load_program(path, batch, dimensions)
    on_host = spec.name == "host" if host is None else host
    return build_artifact(model, program, spec, backend, symbol, on_host, sparse, allow_tf32=allow_tf32)


def build_artifact(
    model: ImportedModel,
    program: Program,
    spec: TargetSpec,
    backend: str,
    symbol: str,
    host: bool,
    sparse: bool = False,
    choices: ScheduleChoices | None = None,
    allow_tf32: bool = False,
) -> Artifact:
    """Lowers, schedules and prints an optimised program; `choices` for the schedule, None for the default."""
    default = default_for(spec, backend)
    choices = choices or default
    lowered = lower(program)
    plain = repeat_nests(lowered) if choices.repeated else lowered
    if "cuda" in (backend, spec.name):
        printed = printed_for_gpu(symbol, model, plain, backend, allow_tf32)
    else:
        printed = printed_for_processor(symbol, model, plain, spec, backend, choices, host, sparse)
    notes: dict[str, object] = {
        "boundaries": model.boundaries,
        "not_rolled": list(program.notes),
        "metadata": dict(model.metadata),
        "constant_bytes_per_iteration": bytes_per_iteration(program),
        "streams": port_streams(plain, model.inputs, model.outputs),
    }
    if choices != default:
        notes["schedule"] = changes(choices, default)
    if printed.one_by_one is not None:
        notes["one_by_one"] = printed.one_by_one
    return Artifact(
        symbol=symbol,
        backend=backend,
        target=spec,
        iterations=program.iterations,
        inputs=model.inputs,
        outputs=model.outputs,
        sources=printed.sources,
        weights=dict(printed.program.constants),
        memory=memory_plan(printed.program, spec, HOST_ALIGNMENT if host and backend in ("c", "tvm") else 1),
        cost=cost(program),
        batch=model.batch,
        early_stop=program.early_stop,
        notes=notes,
    )


def memory_plan(program: LoopProgram, spec: TargetSpec, alignment: int = 1) -> MemoryPlan:
    """Bytes of the caller-owned state, of the scratch within it, and of the constants."""
    if spec.name == "cuda":  # state lives in registers and shared memory, as each form has it
        return MemoryPlan(None, None, sum(value.nbytes for value in program.constants.values()))
    return MemoryPlan(
        state_bytes=state_layout(program, alignment).bytes(spec.word_bits // 8),
        scratch_bytes=program.scratch_bytes,
        constant_bytes=sum(value.nbytes for value in program.constants.values()),
    )


def bytes_per_iteration(program: Program) -> int:
    """Bytes of constants that one more iteration adds; 0 where all weights are tied."""
    return max((sum(program.types[name].nbytes for name in s.stacked) for s in program.segments), default=0)


def check_symbol(symbol: str) -> None:
    """Raises InputError unless `symbol` is a plain C identifier."""
    if not re.fullmatch(r"[a-zA-Z][A-Za-z0-9_]{0,39}", symbol):
        raise InputError(
            "compile", f"symbol {symbol!r}", "a letter, then up to 39 letters, digits or _", "Choose another name."
        )
