"""Every solver of the zoo, exported in many ways and compiled on every back end, beside PyTorch in float64."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import pytest
import torch
from solver_zoo.base import Entry
from solver_zoo.compare import compiled, error, errors, rolls
from solver_zoo.exports import EXPORTERS, FORMS, OURS, TORCH, Case, Way, all_ways, make_case, make_solver, sampled_way
from solver_zoo.registry import SOLVERS

from unfoldc.errors import TargetError
from unfoldc.kernels.pipeline import compile_onnx
from unfoldc.runtime.backends import backends_of
from unfoldc.targets import find_target

DEVICE = "cortex-m4"
NAMES = sorted(SOLVERS)
ON_HOST = backends_of("host")
# An export takes seconds: of each field some solvers, the same ones in every run; `make test-full` takes all.
SAMPLE = [name for name in NAMES if random.Random(f"{name} sample").random() < 0.17]
# More than 5 s each.
LONG = {"admm_lasso", "consensus_admm", "oamp_net", "pendulum_shooting", "richardson_lucy", "sum_product", "vamp"}
# What takes long to compile is tried on one solver of so many.
ONE_IN = {"numba": 4, "tvm": 6, "onnxruntime": 3, DEVICE: 4}
# How many must roll, by exporter.
SHARES = {"ours": 24 / 30, "torch": 15 / 30}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small solvers are slower on two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def every(count: int, name: str, seed: str) -> bool:
    """One name of `count`, the same ones in every run."""
    return random.Random(f"{name} {seed}").randrange(count) == 0


def check(case: Case, backend: str, target: str = "host") -> list[str]:
    """What is wrong with a solver on a back end, in words; nothing where it is right."""
    where = f"{case.entry.name} {case.way} {backend if target == 'host' else target}"
    try:
        solver = compiled(case, backend, target)
        found = errors(solver, case, problems=None if target == "host" else 1)
    except Exception as problem:  # the others are to be heard as well
        if backend == "onnxruntime" and case.way.dtype == "float64" and "NOT_IMPLEMENTED" in str(problem):
            return []  # ONNX Runtime itself has no such kernel in double precision, Conv and Resize for example
        return [f"{where}: {type(problem).__name__}: {problem}"]
    wrong = [f"{where}: error {e:.2g} after iteration {k}" for k, e in enumerate(found, 1) if not e <= case.tolerance]
    if case.way.exporter == "ours" and solver.iterations != case.iterations:
        wrong.append(f"{where}: {solver.iterations} iterations instead of {case.iterations}")
    return wrong


def fits(case: Case) -> bool:
    """Whether the device has room for it, which the refusal says otherwise."""
    try:
        compiled(case, target=DEVICE)
    except TargetError as refusal:
        return "too much" not in refusal.found
    except Exception:  # reported by the comparison
        return True
    return True


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in SAMPLE or n in LONG)) for n in NAMES]
)
def test_every_iterate_is_right(name: str) -> None:
    """One way of exporting; NumPy and C always, the back ends that take long to compile now and then."""
    case = sampled_case(name)
    wrong = [
        line for backend in ON_HOST if every(ONE_IN.get(backend, 1), name, backend) for line in check(case, backend)
    ]
    if case.way.dtype == "float32" and every(ONE_IN[DEVICE], name, DEVICE) and fits(case):
        wrong += check(case, "c", DEVICE)
        wrong += check(case, "tvm", DEVICE) if every(ONE_IN["tvm"], name, "tvm on a device") else []
    assert not wrong, "\n".join(wrong)


def sampled_case(name: str) -> Case:
    """A third comes from torch's own export."""
    exporter = "torch" if every(3, name, "exporter") else "ours"
    return make_case(SOLVERS[name], sampled_way(SOLVERS[name], exporter))


def test_most_roll() -> None:
    """In the ways that were sampled."""
    cases = [sampled_case(name) for name in SAMPLE if name not in LONG]
    for exporter, least in SHARES.items():
        names = {case.entry.name for case in cases if case.way.exporter == exporter}
        still = {case.entry.name for case in cases if case.entry.name in names and not rolls_if_known(case)}
        assert len(names - still) >= least * len(names), f"not rolled from {exporter}: {sorted(still)} of {len(names)}"


def rolls_if_known(case: Case) -> bool:
    """Whether it rolls; not if the compiler refuses it, which another test says."""
    try:
        return rolls(case)
    except Exception:
        return False


def body(entry: Entry, iterations: int) -> tuple[int, bool]:
    """Lines of the generated C, and whether the solver rolls."""
    case = make_case(entry, OURS, iterations)
    sources = compile_onnx(case.path, find_target("host").spec, "c").sources
    return sources["solver.c"].count("\n"), rolls(case)


def same_size(name: str, many: int) -> None:
    small, rolled = body(SOLVERS[name], 4)
    if rolled:
        assert body(SOLVERS[name], many) == (small, True)


@pytest.mark.parametrize("name", ["fista"])
def test_code_does_not_grow_with_the_iterations(name: str) -> None:
    assert rolls(make_case(SOLVERS[name], OURS, 4))
    same_size(name, many=16)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_code_of_no_solver_that_rolls_grows_with_the_iterations(name: str) -> None:
    same_size(name, many=64)


@pytest.mark.slow
def test_most_roll_from_a_module_list() -> None:
    """The same count where each solver is exported in the one way that its users will take first."""
    for way in (OURS, TORCH):
        rolling = [name for name in NAMES if rolls_if_known(make_case(SOLVERS[name], way))]
        assert len(rolling) >= SHARES[way.exporter] * len(NAMES), f"{way}, not: {sorted({*NAMES} - {*rolling})}"


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", NAMES)
def test_full_cross_product(name: str, exporter: str, form: str) -> None:
    """All opsets, types and batches on all back ends; what compiles to the same text is run once."""
    entry, wrong, seen = SOLVERS[name], [], set()
    for way in all_ways(entry):
        if (way.exporter, way.form) != (exporter, form):
            continue
        case = make_case(entry, way, check=True)
        for backend, target in [*((b, "host") for b in ON_HOST), ("c", DEVICE), ("tvm", DEVICE)]:
            if target == DEVICE and (way.dtype == "float64" or not fits(case)):
                continue
            program = digest(case, backend, target)
            if program and program in seen:
                continue
            seen.add(program)
            wrong += check(case, backend, target)
    assert not wrong, "\n".join(wrong)


def digest(case: Case, backend: str, target: str) -> str:
    """What an engine gets, in short; "" where there is no text to compare."""
    try:
        artifact = compile_onnx(case.path, find_target(target).spec, backend)
    except Exception:  # reported by the comparison
        return ""
    if not artifact.sources:
        return ""
    whole = hashlib.sha256(repr((target, sorted(artifact.sources.items()), artifact.inputs, artifact.outputs)).encode())
    for weight in sorted(artifact.weights):
        whole.update(artifact.weights[weight].tobytes())
    return whole.hexdigest()


def test_a_warm_start_goes_on_where_the_last_call_ended() -> None:
    """The states are inputs and outputs: two calls of K iterations are one of 2 K."""
    entry = SOLVERS["admm_quadratic"]
    case = make_case(entry, OURS)
    solver = compiled(case, "c")
    states = solver(*case.inputs)
    arrays = [torch.from_numpy(x).double() for x in case.inputs]
    right = make_solver(entry, 2 * case.iterations).double().iterates(*arrays)[-1]
    again = solver(*case.inputs[:3], *states)
    assert error(again, [x.numpy() for x in right]) <= case.tolerance < error(states, [x.numpy() for x in right])


def test_the_zoo_is_what_it_promises_to_be() -> None:
    entries = list(SOLVERS.values())
    assert len(entries) >= 30 and len({entry.field for entry in entries}) >= 10
    assert sum(entry.runtime_matrix for entry in entries) >= 8
    assert {str(way) for way in all_ways(entries[0])} >= {str(OURS), str(TORCH), str(Way("torch", "loop", 23))}
