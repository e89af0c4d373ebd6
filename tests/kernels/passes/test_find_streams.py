from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.inspect import describe
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Buffer, Const, For, Load, LoopProgram, Step, Store, Var
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.find_streams import Stream, Streams, find_streams, take_slices
from unfoldc.kernels.passes.repeat_nests import repeat_nests
from unfoldc.kernels.pipeline import compile_onnx, load_program
from unfoldc.kernels.schedule import schedule
from unfoldc.kernels.verify import verify_loops
from unfoldc.targets import find_target


def _load(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


models = _load("models_with_streams")
K, K_ = 6, Var("k")


def loops(workshop: Any, maker: Any, iterations: int = K) -> LoopProgram:
    path = workshop.save(maker(workshop.Graph(), iterations))
    return repeat_nests(lower(load_program(path)[1]))


@pytest.mark.parametrize("name", models.STREAMS)
def test_streams_are_found(workshop: Any, name: str) -> None:
    maker, (inputs, outputs, endless) = models.STREAMS[name]
    program = loops(workshop, maker)
    found = find_streams(program)
    assert ({s.name: s.size for s in found.inputs}, {s.name: s.size for s in found.outputs}) == (inputs, outputs)
    assert found.endless == endless
    assert [s.begins for s in found.inputs] == [name == "from_the_first"] * len(inputs)
    for target in ("host", "cortex-m4"):  # nor do transformations for a target hide them
        assert find_streams(schedule(program, find_target(target).spec)) == found


@pytest.mark.parametrize("maker", models.NO_STREAMS)
def test_what_is_no_stream(workshop: Any, maker: Any) -> None:
    assert find_streams(loops(workshop, maker)) == Streams()


def test_a_single_iteration_has_no_streams(workshop: Any) -> None:
    assert find_streams(loops(workshop, models.tracker, 1)) == Streams()


def test_other_solvers_have_none(solver: Any, workshop: Any) -> None:
    """Each takes all of its inputs at once."""
    assert find_streams(lower(load_program(workshop.saved(solver.name, 4))[1])) == Streams()


@pytest.mark.parametrize("name", models.STREAMS)
def test_slices_one_by_one_give_the_same_answer(workshop: Any, name: str) -> None:
    """Each iteration alone, on nothing but its slice and the states, against the whole program."""
    program = loops(workshop, models.STREAMS[name][0])
    found = find_streams(program)
    sliced = take_slices(program, found.inputs)
    verify_loops(sliced)
    rng = np.random.default_rng(1)
    inputs = {n: rng.standard_normal(program.buffers[n].shape).astype("float32") for n in program.inputs}
    states = {
        n: Buffer(f"out_{n}", b.dtype, b.shape, "output") for n, b in program.buffers.items() if b.space == "state"
    }
    values: dict[str, np.ndarray] = {}
    wanted = run(program, inputs)
    for k in range(K):
        parts = {s.name: inputs[s.name].reshape(K, s.size)[k] for s in found.inputs}
        one = alone(sliced, k, states)
        slices = {n: parts.get(n, inputs[n]).reshape(sliced.buffers[n].shape) for n in program.inputs}
        got = run(one, {**slices, **{f"in_{n}": values[n] for n in states if k}})
        values = {n: got[b.name] for n, b in states.items()}
        for s in found.outputs:
            place = values[s.history].reshape(K, s.size)[k]
            rows = wanted[s.name]
            axis = rows.shape.index(K) if K in rows.shape else None
            right = rows.reshape(K, s.size)[k] if axis is None else np.take(rows, k, axis)
            np.testing.assert_array_equal(place, right.ravel())
    for n in program.outputs:
        np.testing.assert_array_equal(got[n], wanted[n])


def alone(sliced: LoopProgram, k: int, states: dict[str, Buffer]) -> LoopProgram:
    """A program of iteration k; from the second on, states come in as inputs. What they hold in the end goes out."""
    buffers, begin, inputs = dict(sliced.buffers), sliced.begin, sliced.inputs
    buffers |= {b.name: b for b in states.values()}
    end = (*sliced.end, *(_copy(buffers, n, b.name) for n, b in states.items()))
    if k:
        buffers |= {f"in_{n}": Buffer(f"in_{n}", b.dtype, b.shape, "input") for n, b in states.items()}
        begin = tuple(_copy(buffers, f"in_{n}", n) for n in states)
        inputs += tuple(f"in_{n}" for n in states)
    body = tuple(build.substitute(s, "k", build.index(k)) for s in sliced.steps[0].body)
    outputs = (*sliced.outputs, *(b.name for b in states.values()))
    return replace(
        sliced, buffers=buffers, inputs=inputs, outputs=outputs, begin=begin, steps=(Step(0, 1, body),), end=end
    )


def _copy(buffers: dict[str, Buffer], source: str, target: str) -> Any:
    shape = buffers[source].shape
    at = tuple(Var(f"c{a}") for a in range(len(shape)))
    body: Any = Store(target, at, Load(source, at, buffers[source].dtype))
    for a, n in reversed(list(enumerate(shape))):
        body = For(f"c{a}", n, (body,))
    return body


def by_hand(index: Any, slot: Any = K_, again: bool = False) -> LoopProgram:
    """x += y[index] for two columns, kept in h[slot]; `again` reads a slot back."""
    i, F = Var("i"), "float32"
    new = build.add(Load("x", (i,), F), Load("y", (index, i), F))
    if again:
        new = build.add(new, Load("h", (build.ZERO, i), F))
    body = For("i", 2, (Store("x", (i,), new),)), For("i", 2, (Store("h", (slot, i), Load("x", (i,), F)),))
    start = For("i", 2, (Store("x", (i,), Const(0.0, F)),))
    start_h = For("j", 4, (For("i", 2, (Store("h", (Var("j"), i), Const(0.0, F)),)),))
    copy = For("j", 4, (For("i", 2, (Store("z", (Var("j"), i), Load("h", (Var("j"), i), F)),)),))
    spaces = {"y": "input", "h": "state", "z": "output"}
    buffers = {n: Buffer(n, F, (4, 2), s) for n, s in spaces.items()} | {"x": Buffer("x", F, (2,), "state")}
    return LoopProgram(buffers, {}, ("y",), ("z",), (start, start_h), (Step(0, 4, body),), (copy,))


def test_indices_that_are_the_iteration_in_other_words() -> None:
    k, zero = Var("k"), build.ZERO
    plain = Streams((Stream("y", 2),), (Stream("z", 2, history="h"),), True)
    assert find_streams(by_hand(k)) == plain
    assert find_streams(by_hand(build.add(build.binary("min", Var("i"), zero), k))) == plain
    assert find_streams(by_hand(build.sub(build.mul(k, build.index(2)), k))) == plain
    least = build.binary("min", build.add(Var("i"), k), build.index(3))
    for other in (zero, Var("i"), build.sub(build.index(3), k), build.binary("mod", k, build.index(2)), least):
        assert find_streams(by_hand(other)) == Streams()


def test_programs_that_only_seem_to_have_streams() -> None:
    program, F = by_hand(K_), "float32"
    (step,) = program.steps
    two = replace(program, steps=(Step(0, 2, step.body), Step(2, 2, step.body)))
    assert find_streams(two) == Streams()
    read = For("i", 2, (Store("z", (build.ZERO, Var("i")), Load("y", (build.ZERO, Var("i")), F)),))
    before, after = replace(program, begin=(*program.begin, read)), replace(program, end=(*program.end, read))
    assert [s.begins for s in find_streams(before).inputs] == [True] and find_streams(after) == Streams()
    number = For("i", 2, (Store("h", (K_, Var("i")), build.cast(K_, F)),))
    found = find_streams(replace(program, steps=(Step(0, 4, (step.body[0], number)),)))
    assert found.outputs and not found.endless  # what is kept depends on the iteration
    buffers = {**program.buffers, **{n: Buffer(n, F, (8,), s) for n, s in (("h", "state"), ("z", "output"))}}
    first = Store("h", (K_,), Load("x", (build.ZERO,), F))
    flat = For("j", 8, (Store("z", (Var("j"),), Load("h", (Var("j"),), F)),))
    half = replace(program, buffers=buffers, begin=program.begin[:1], end=(flat,))
    half = replace(half, steps=(Step(0, 4, (step.body[0], first)),))
    assert find_streams(half).inputs and not find_streams(half).outputs  # half of it is never written


def test_a_history_that_is_more_than_that_is_no_stream() -> None:
    k = Var("k")
    assert find_streams(by_hand(k, slot=build.ZERO)).outputs == ()
    assert find_streams(by_hand(k, slot=build.sub(build.index(3), k))).outputs == ()
    found = find_streams(by_hand(k, again=True))
    assert found.inputs and found.outputs == () and not found.endless
    program = by_hand(k)
    copy = program.end[0]
    assert isinstance(copy, For)
    assert find_streams(replace(program, end=(copy, copy))).outputs == ()
    turned = (Var("i"), Var("j"))
    for indices in (turned, (build.sub(build.index(3), Var("j")), Var("i")), (Var("j"), build.ZERO)):
        store = Store("z", indices, Load("h", (Var("j"), Var("i")), "float32"))
        shape = (2, 4) if indices == turned else (4, 2)
        buffers = {**program.buffers, "z": Buffer("z", "float32", shape, "output")}
        other = replace(program, buffers=buffers, end=(For("j", 4, (For("i", 2, (store,)),)),))
        assert [s.size for s in find_streams(other).outputs] == ([2] if indices == turned else [])


def test_inspect_and_the_artifact_name_them(workshop: Any) -> None:
    path = workshop.save(models.gains(workshop.Graph(), K))
    found = describe(path)
    artifact = compile_onnx(path, find_target("host").spec, "reference")
    names = {"inputs": ["y"], "outputs": [found.outputs[0].split()[0]]}
    assert found.streams == artifact.notes["streams"] == names
    assert f"streams  each iteration reads a slice of y; each adds a slice of {names['outputs'][0]}\n" in str(found)
    assert "streams" not in str(describe(workshop.save(models.read_later(workshop.Graph(), K))))
