"""Solvers called with arrays that lie on a GPU, a fake one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_artifact import K, N, cuda_artifact, problems, solution
from cuda_fakes import fake
from fake_cuda import CUresult, FakeDriver
from fake_gpu_arrays import CupyArray, DlpackArray, InterfaceArray, JaxArray, JaxTaken, Tensor, install

from unfoldc.errors import DeviceError, InputError, ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.cuda.driver import Driver
from unfoldc.runtime.cuda.engine import CudaEngine
from unfoldc.runtime.cuda.own_array import CudaArray
from unfoldc.runtime.result import Status
from unfoldc.runtime.solver_cuda import CudaSolver

KINDS = [Tensor, CupyArray, JaxArray, InterfaceArray, DlpackArray]
ALLOCATIONS = {"cuMemAlloc", "cuMemHostAlloc", "cuStreamCreate", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync"}
WAITS = {"cuStreamSynchronize", "cuCtxSynchronize", "cuEventSynchronize"}


class Bench:
    """A solver on a fake GPU."""

    def __init__(self, artifact: Artifact, report: Path, patch: pytest.MonkeyPatch, **changes: Any) -> None:
        self.api = fake(**changes)
        self.state = install(self.api, patch)
        self.artifact = artifact
        self.engine = CudaEngine(artifact, report, Driver(self.api))
        build = Build(artifact, report.parent, "cuda", "gpu", report.name)
        self.solver = CudaSolver(build, self.engine)

    def inputs(self, kind: Any, batch: int, seed: int = 1, on: int = 0) -> list[Any]:
        return [kind(self.api, values, on) for values in problems(batch, seed)]

    def expected(self, batch: int, iterations: int = K, seed: int = 1) -> np.ndarray:
        return solution(self.artifact, *problems(batch, seed), iterations)


@pytest.fixture
def bench(artifact: Artifact, report: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(artifact, report, monkeypatch)


def values(array: Any) -> np.ndarray:
    found: np.ndarray = array.numpy() if isinstance(array, CudaArray) else array.values()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 70])
def test_the_answer_is_an_array_of_the_same_kind(bench: Bench, kind: Any, batch: int) -> None:
    answer = bench.solver(*bench.inputs(kind, batch))
    made = {JaxArray: JaxTaken, InterfaceArray: CudaArray, DlpackArray: CudaArray}
    assert type(answer) is made.get(kind, kind)
    np.testing.assert_allclose(values(answer), bench.expected(batch), atol=1e-5)


@pytest.mark.parametrize(("kind", "stream"), [(Tensor, 71), (CupyArray, 72)])
def test_a_call_is_one_launch_on_the_callers_stream(bench: Bench, kind: Any, stream: int) -> None:
    inputs = bench.inputs(kind, 5)
    bench.solver(*inputs)
    bench.api.calls.clear()
    answer = bench.solver(inputs[0], M=inputs[1])
    done = [name for name in bench.api.names() if not name.startswith("cuCtx")]
    assert done == ["cuLaunchKernel"]
    launch = bench.api.launches[-1]
    assert launch.stream == stream
    assert launch.words[:3] == [inputs[0].address, inputs[1].address, answer.address]
    assert launch.words[5:7] == [5, K]
    bench.state.streams["torch"] = bench.state.streams["cupy"] = 99
    bench.solver(*inputs)
    assert bench.api.launches[-1].stream == 99


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_allocated_after_the_first_call(bench: Bench, kind: Any) -> None:
    for _ in range(2):  # the second still meets the answer of the first
        answer = bench.solver(*bench.inputs(kind, 5))
    del answer
    bench.api.calls.clear()
    for seed in range(4):
        answer = bench.solver(*bench.inputs(kind, 5, seed))
        found = values(answer) if kind in (Tensor, CupyArray) else None
        if found is not None:
            np.testing.assert_allclose(found, bench.expected(5, seed=seed), atol=1e-5)
        del answer
    assert not ALLOCATIONS & set(bench.api.names())


def test_the_stream_of_the_interface_is_used(bench: Bench) -> None:
    b, matrix = bench.inputs(InterfaceArray, 3)
    bench.solver(b, matrix)
    assert bench.api.launches[-1].stream == 1  # the legacy default stream
    b.stream = 44
    answer = bench.solver(b, matrix)
    assert bench.api.launches[-1].stream == 44
    assert answer.__cuda_array_interface__["stream"] == 44
    matrix.stream = 45
    bench.api.calls.clear()
    bench.solver(b, matrix)
    wait = [call for call in bench.api.calls if call[0] in ("cuEventRecord", "cuStreamWaitEvent")]
    assert [wait[0][0], wait[0][2], wait[1][0], wait[1][1]] == ["cuEventRecord", 45, "cuStreamWaitEvent", 44]
    assert bench.api.launches[-1].stream == 44
    assert not bench.api.events


def test_dlpack_hands_over_to_a_stream_of_the_engine(bench: Bench) -> None:
    b, matrix = bench.inputs(DlpackArray, 3)
    answer = bench.solver(b, matrix)
    own = int(bench.engine.code().stream)
    assert b.asked == matrix.asked == [own] and bench.api.launches[-1].stream == own
    assert answer.__dlpack_device__() == (2, 0)
    bench.api.calls.clear()
    answer.__dlpack__(stream=55)
    assert [c[1] for c in bench.api.calls if c[0] == "cuStreamWaitEvent"] == [55]


def test_libraries_may_be_mixed_and_wait_for_each_other(bench: Bench) -> None:
    b, matrix = problems(3)
    answer = bench.solver(Tensor(bench.api, b), CupyArray(bench.api, matrix))
    assert type(answer) is Tensor
    assert [c[2] for c in bench.api.calls if c[0] == "cuEventRecord"] == [72]
    assert bench.api.launches[-1].stream == 71
    np.testing.assert_allclose(answer.values(), bench.expected(3), atol=1e-5)


def test_an_empty_batch_launches_nothing(bench: Bench) -> None:
    b = Tensor(bench.api, np.zeros((0, N), np.float32))
    answer = bench.solver(b, bench.inputs(Tensor, 1)[1])
    assert answer.shape == (0, N) and not bench.api.launches


def test_numpy_arrays_still_work(bench: Bench) -> None:
    x = bench.solver(*problems(5))
    assert type(x) is np.ndarray
    np.testing.assert_allclose(x, bench.expected(5), atol=1e-5)
    np.testing.assert_allclose(bench.solver([[1.0] * N], M=np.zeros((N, N)))[0].shape, (N,))


def test_tensors_on_the_processor_are_copied_like_numpy_arrays(bench: Bench) -> None:
    class OnProcessor(Tensor):
        is_cuda = False

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return self.values()

    x = bench.solver(*bench.inputs(OnProcessor, 3))
    assert type(x) is np.ndarray
    np.testing.assert_allclose(x, bench.expected(3), atol=1e-5)


def change(array: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(array, name, value)
    return array


@pytest.mark.parametrize(
    ("kind", "attributes", "message"),
    [
        (Tensor, {"contiguous": False}, r"input b: .*not contiguous.*tensor.to\(torch.float32\).contiguous\(\)"),
        (Tensor, {"numpy_type": np.dtype("f8")}, "element type float64; allowed: float32 exactly"),
        (Tensor, {"numpy_type": np.dtype("f2")}, "element type torch.float16"),
        (Tensor, {"requires_grad": True}, r"requires a gradient.*tensor.detach\(\)"),
        (Tensor, {"layout": "sparse"}, "not contiguous"),
        (Tensor, {"shape": (8,)}, r"shape \(8,\); allowed: \(batch, 8\). Add the batch axis"),
        (Tensor, {"shape": (2, 3)}, r"shape \(2, 3\)"),
        (Tensor, {"ordinal": 1}, "input M: on GPU 0; allowed: GPU 1, where b is"),
        (CupyArray, {"c_contiguous": False}, "cupy.ascontiguousarray"),
        (InterfaceArray, {"strides": (4, 8)}, "not contiguous"),
        (InterfaceArray, {"numpy_type": np.dtype("i4")}, "element type int32"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(bench: Bench, kind: Any, attributes: dict[str, Any], message: str) -> None:
    b, matrix = bench.inputs(kind, 2)
    with pytest.raises(InputError, match=message):
        bench.solver(change(b, **attributes), matrix)
    assert not bench.api.launches


def test_a_numpy_array_among_those_on_a_gpu_is_refused(bench: Bench) -> None:
    b, matrix = problems(2)
    with pytest.raises(InputError, match="input M: ndarray, which is not on a GPU, among arrays that are"):
        bench.solver(Tensor(bench.api, b), matrix)
    with pytest.raises(InputError, match="input M: missing"):
        bench.solver(Tensor(bench.api, b))


def test_gradients_that_are_switched_off_do_not_matter(bench: Bench) -> None:
    bench.state.gradients = False
    b, matrix = bench.inputs(Tensor, 2)
    np.testing.assert_allclose(
        bench.solver(change(b, requires_grad=True), matrix).values(), bench.expected(2), atol=1e-5
    )


def test_strides_that_say_nothing_new_are_contiguous(bench: Bench) -> None:
    b, matrix = bench.inputs(InterfaceArray, 1)
    np.testing.assert_allclose(
        bench.solver(change(b, strides=(400, 4)), change(matrix, strides=(32, 4))).numpy(), bench.expected(1), atol=1e-5
    )


def test_a_run_says_how_it_ended(bench: Bench) -> None:
    b, matrix = bench.inputs(Tensor, 4)
    result = bench.solver.run({"b": b, "M": matrix}, iterations=2)
    answer: Any = result.outputs["x"]
    assert (type(answer), result.status, result.iterations) == (Tensor, Status.STOPPED, 2)
    np.testing.assert_allclose(answer.values(), bench.expected(4, 2), atol=1e-5)
    broken = problems(1)[0]
    broken[0, 3] = np.inf
    result = bench.solver.run({"b": Tensor(bench.api, broken), "M": matrix})
    assert result.status is Status.NOT_FINITE


@pytest.mark.parametrize("kind", [Tensor, CupyArray, InterfaceArray])
@pytest.mark.parametrize("given", [False, True])
def test_a_bound_call_is_one_call_of_the_driver(bench: Bench, kind: Any, given: bool) -> None:
    b, matrix = bench.inputs(kind, 3)
    output = kind(bench.api, np.zeros((3, N), np.float32)) if given else None
    call = bench.solver.bind({"b": b, "M": matrix}, output, iterations=4)
    bench.api.current = bench.engine.code().context  # as it is in a thread that made the arrays
    bench.api.calls.clear()
    answer = call()
    assert bench.api.names() == ["cuLaunchKernel"]
    np.testing.assert_allclose(values(answer), bench.expected(3, 4), atol=1e-5)
    assert answer is call.outputs["x"] and (output is None or answer is output)
    assert (call.batch, call.iterations, call.inputs["b"]) == (3, 4, b)


def test_a_bound_call_follows_the_current_stream(bench: Bench) -> None:
    call = bench.solver.bind(bench.inputs(Tensor, 3))
    for stream in (71, 80):
        bench.state.streams["torch"] = stream
        call()
        assert bench.api.launches[-1].stream == stream


def test_a_bound_call_makes_the_context_current_where_there_is_none(bench: Bench) -> None:
    call = bench.solver.bind(bench.inputs(Tensor, 3))
    bench.api.failure, bench.api.fail_at = CUresult.CUDA_ERROR_INVALID_CONTEXT, 0
    np.testing.assert_allclose(call().values(), bench.expected(3), atol=1e-5)
    bench.api.failure, bench.api.fail_at = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS, 0
    with pytest.raises(DeviceError, match="a kernel crashed"):
        call()


def test_a_bound_call_runs_where_another_gpu_is_current(
    artifact: Artifact, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(artifact, report, monkeypatch, gpus=2)
    on_first, on_second = bench.solver.bind(bench.inputs(Tensor, 3)), bench.solver.bind(bench.inputs(Tensor, 3, on=1))
    contexts = [bench.engine.code(ordinal).context for ordinal in (0, 1)]
    done = len(bench.api.calls)
    for context in (*contexts, 99):
        bench.api.current = context
        for call in (on_first, on_second):
            np.testing.assert_allclose(call().values(), bench.expected(3), atol=1e-5)
            assert bench.api.current == context
    assert bench.api.names()[done:].count("cuLaunchKernel") == 6  # none is tried in another GPU's context
    inputs: list[Any] = [call.inputs["b"] for call in (on_first, on_second)]
    assert [launch.words[0] for launch in bench.api.launches[:2]] == [b.address for b in inputs]


def test_a_bound_call_runs_where_another_context_of_its_gpu_is_current(bench: Bench) -> None:
    call = bench.solver.bind(bench.inputs(Tensor, 3))
    bench.api.current = 99
    np.testing.assert_allclose(call().values(), bench.expected(3), atol=1e-5)
    assert bench.api.current == 99


@pytest.mark.parametrize("kind", [Tensor, CupyArray, InterfaceArray, DlpackArray])
def test_each_gpu_has_its_own_code(
    artifact: Artifact, report: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    bench = Bench(artifact, report, monkeypatch, gpus=2)
    for on in (1, 0, 1):
        answer = bench.solver(*bench.inputs(kind, 3, on=on))
        np.testing.assert_allclose(values(answer), bench.expected(3), atol=1e-5)
        assert on == (answer.__dlpack_device__()[1] if isinstance(answer, CudaArray) else answer.ordinal)
        assert set(bench.engine._codes) == {1, on} | ({0} if bench.api.launches[2:] else set())
        bench.api.current = 0


def test_a_gpu_that_is_too_old_does_not_keep_another_from_working(
    artifact: Artifact, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(artifact, report, monkeypatch, gpus=2)
    bench.api.old.add(0)
    answer = bench.solver(*bench.inputs(InterfaceArray, 3, on=1))
    np.testing.assert_allclose(answer.numpy(), bench.expected(3), atol=1e-5)
    with pytest.raises(ToolError, match="compute capability is 7.0"):
        bench.solver(*bench.inputs(InterfaceArray, 3))


def test_libraries_wait_for_each_other_in_a_thread_without_a_context(bench: Bench) -> None:
    b, matrix = problems(3)
    call = bench.solver.bind([Tensor(bench.api, b), CupyArray(bench.api, matrix)])
    bench.api.current = 0
    np.testing.assert_allclose(call().values(), bench.expected(3), atol=1e-5)
    assert [c[2] for c in bench.api.calls if c[0] == "cuEventRecord"] == [72] and not bench.api.events


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda b, other: b, "output x: its memory overlaps that of input b"),
        (lambda b, other: change(other, shape=(3, N)), r"shape \(3, 8\); allowed: \(2, 8\)"),
        (lambda b, other: change(other, read_only=True), "a read-only array"),
        (lambda b, other: np.zeros((2, N), np.float32), "ndarray, which is not on a GPU"),
        (lambda b, other: {"z": other}, "output z: no such output"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(bench: Bench, make: Any, message: str) -> None:
    b, matrix = bench.inputs(InterfaceArray, 2)
    other = InterfaceArray(bench.api, np.zeros((2, N), np.float32))
    with pytest.raises(InputError, match=message):
        bench.solver.bind([b, matrix], make(b, other))


def captured(report: Path, patch: pytest.MonkeyPatch, **changes: Any) -> tuple[Bench, SimpleNamespace]:
    bench = Bench(cuda_artifact(**changes), report, patch)
    bench.solver(*bench.inputs(Tensor, 3))
    call = bench.solver.bind(bench.inputs(Tensor, 3))
    bench.api.current = bench.engine.code().context
    bench.api.capturing.add(71)
    bench.api.calls.clear()
    return bench, SimpleNamespace(call=call)


def test_a_captured_call_allocates_and_waits_for_nothing(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, kept = captured(report, monkeypatch)
    kept.call()
    bench.solver(*bench.inputs(Tensor, 3))
    assert not (ALLOCATIONS | WAITS) & set(bench.api.names())
    assert bench.api.names().count("cuLaunchKernel") == 2


def test_a_captured_call_has_a_workspace_of_its_own(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, kept = captured(report, monkeypatch, workspace_bytes=100)
    kept.call()
    assert not (ALLOCATIONS | WAITS) & set(bench.api.names())  # a bound call has one already
    for _ in range(2):
        bench.solver(*bench.inputs(Tensor, 3))
    workspaces = [launch.words[4] for launch in bench.api.launches]
    assert len(set(workspaces)) == len(workspaces) == 4
    modes = [int(c[1]) for c in bench.api.calls if c[0] == "cuThreadExchangeStreamCaptureMode"]
    assert modes == [2, 0, 2, 0]
    fills = [c for c in bench.api.calls if c[0] == "cuMemsetD8Async"]
    assert all(int(c[-1]) == int(bench.engine.code().stream) for c in fills)  # not in the graph


def test_a_bound_calls_workspace_is_used_again_after_it(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(cuda_artifact(workspace_bytes=100), report, monkeypatch)
    first = bench.solver.bind(bench.inputs(Tensor, 3))
    first()
    del first
    bench.api.calls.clear()
    bench.solver.bind(bench.inputs(Tensor, 3))()
    assert "cuMemAlloc" not in bench.api.names()
    names = bench.api.names()
    order = [names.index(name) for name in ("cuCtxRecordEvent", "cuStreamWaitEvent", "cuMemsetD8Async")]
    assert order == sorted(order) and "cuCtxSynchronize" not in names
    assert bench.api.launches[0].words[4] == bench.api.launches[1].words[4]


@pytest.mark.parametrize("kind", [JaxArray, InterfaceArray, DlpackArray])
def test_an_answers_memory_is_used_again_in_the_order_of_the_stream(bench: Bench, kind: Any) -> None:
    inputs = bench.inputs(kind, 3)
    first = bench.solver(*inputs)
    address = first.address
    del first
    bench.api.calls.clear()
    again = bench.solver(*inputs)
    assert again.address == address and not WAITS & set(bench.api.names())
    calls = {call[0]: call for call in reversed(bench.api.calls)}  # the first of each name
    stream = bench.api.launches[-1].stream
    assert calls["cuStreamWaitEvent"][1:3] == (stream, calls["cuCtxRecordEvent"][2])
    assert bench.api.names().index("cuStreamWaitEvent") < bench.api.names().index("cuLaunchKernel")
    assert not bench.api.events


def test_older_drivers_wait_before_memory_is_used_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(context: int, event: int) -> None:
        raise RuntimeError('Function "cuCtxRecordEvent" not found')

    inputs = bench.inputs(InterfaceArray, 3)
    bench.solver(*inputs)
    monkeypatch.setattr(bench.api, "cuCtxRecordEvent", unknown)
    bench.api.calls.clear()
    bench.solver(*inputs)
    names = bench.api.names()
    assert names.index("cuCtxSynchronize") < names.index("cuLaunchKernel") and not bench.api.events


def test_what_a_graph_fills_is_not_used_again(bench: Bench) -> None:
    inputs = bench.inputs(InterfaceArray, 3)
    inputs[0].stream = 44
    known = {bench.solver(*inputs).address for _ in range(2)}
    bench.api.capturing.add(44)
    bench.api.calls.clear()
    addresses = [bench.solver(*inputs).address for _ in range(2)]
    assert len({*known, *addresses}) == 3 and not WAITS & set(bench.api.names())
    bench.api.capturing.clear()
    later = [bench.solver(*inputs) for _ in range(3)]
    assert not {array.address for array in later} & set(addresses)


def test_an_answer_keeps_the_engine_and_its_memory_alive(artifact: Artifact, report: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        bench = Bench(artifact, report, patch)
        answer = bench.solver(*bench.inputs(InterfaceArray, 2))
        expected, api = bench.expected(2), bench.api
        del bench
        np.testing.assert_allclose(np.asarray(answer), expected, atol=1e-5)
        assert api.leaks()
        del answer
        assert not api.leaks()


def test_nothing_leaks_wherever_a_call_fails(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for failing in range(30):
        bench = Bench(cuda_artifact(workspace_bytes=64), report, monkeypatch)
        inputs = bench.inputs(InterfaceArray, 3)
        bench.api.fail_at, done = failing, len(bench.api.calls)
        try:
            bench.solver(*inputs)
        except Exception as error:
            assert "OUT_OF_MEMORY" in str(error), repr(error)
        bench.api.fail_at = -1
        np.testing.assert_allclose(bench.solver(*inputs).numpy(), bench.expected(3), atol=1e-5)
        api: FakeDriver = bench.api
        bench.engine.close()
        kept = {"contexts": 1} if api.names()[done + failing] == "cuDevicePrimaryCtxRelease" else {}
        assert api.leaks() == kept, failing


def test_known_shapes_go_the_fast_way_and_give_the_same(bench: Bench) -> None:
    first = bench.inputs(Tensor, 3, 1)
    bench.solver(*first)
    bench.api.current = bench.engine.code().context
    bench.api.calls.clear()
    for batch, seed in ((3, 2), (70, 3), (70, 4), (3, 5)):
        answer = bench.solver(*bench.inputs(Tensor, batch, seed))
        np.testing.assert_allclose(answer.values(), bench.expected(batch, seed=seed), atol=1e-5)
    assert [launch.kernel for launch in bench.api.launches] == ["solve_one"] * 2 + ["solve_many"] * 2 + ["solve_one"]
    bench.api.calls.clear()
    bench.solver(*bench.inputs(Tensor, 3, 6))
    assert bench.api.names() == ["cuCtxGetCurrent", "cuLaunchKernel"]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"contiguous": False}, "not contiguous"),
        ({"numpy_type": np.dtype("f8")}, "element type float64"),
        ({"requires_grad": True}, "requires a gradient"),
        ({"ordinal": 1}, "on GPU 0; allowed: GPU 1"),
    ],
)
def test_the_fast_way_lets_nothing_pass(bench: Bench, attributes: dict[str, Any], message: str) -> None:
    b, matrix = bench.inputs(Tensor, 2)
    bench.solver(b, matrix)
    bench.api.current = bench.engine.code().context
    with pytest.raises(InputError, match=message):
        bench.solver(change(b, **attributes), matrix)
    assert len(bench.api.launches) == 1


def test_the_fast_way_has_workspaces_and_errors(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(cuda_artifact(workspace_bytes=64), report, monkeypatch)
    inputs = bench.inputs(Tensor, 2)
    for _ in range(3):
        np.testing.assert_allclose(bench.solver(*inputs).values(), bench.expected(2), atol=1e-5)
        bench.api.current = bench.engine.code().context
    assert len({launch.words[4] for launch in bench.api.launches}) == 1
    bench.api.calls.clear()
    bench.solver(*inputs)
    bench.api.failure, bench.api.fail_at = (
        CUresult.CUDA_ERROR_ILLEGAL_ADDRESS,
        bench.api.names().index("cuLaunchKernel"),
    )
    with pytest.raises(DeviceError, match="launching 1 blocks of 32 threads: a kernel crashed"):
        bench.solver(*inputs)


def test_after_the_engine_was_closed_a_call_opens_it_again(bench: Bench) -> None:
    inputs = bench.inputs(Tensor, 2)
    bench.solver(*inputs)
    bench.engine.close()
    for _ in range(2):
        np.testing.assert_allclose(bench.solver(*inputs).values(), bench.expected(2), atol=1e-5)
        bench.api.current = bench.engine.code().context
    bench.api.calls.clear()
    bench.solver(*inputs)
    assert bench.api.names() == ["cuCtxGetCurrent", "cuLaunchKernel"]
