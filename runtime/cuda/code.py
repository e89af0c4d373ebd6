"""A solver's code on one GPU: the module loaded, its weights uploaded, its kernels ready to be launched."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from unfoldc.errors import TargetError, ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.cuda.cublas import Cublas
from unfoldc.runtime.cuda.driver import Driver
from unfoldc.runtime.cuda.kernel import Arguments, Kernel
from unfoldc.runtime.cuda.launch_facts import Form, LaunchFacts, gathered
from unfoldc.runtime.cuda.launch_list import LaunchList
from unfoldc.runtime.cuda.listed import ListKernel
from unfoldc.runtime.cuda.memory import Memory
from unfoldc.targets.cuda.packages import LOWEST

_FREE_SHARED = 48 * 1024  # what a block may take without asking


class DeviceCode:
    """What a solver keeps on one GPU until `close`. Several threads may launch at once.

    `cycle_nanoseconds`: of a cycle, taken to be one of the highest clock.
    Raises ToolError for a GPU that no code was made for, and what the driver's failures stand for.
    """

    owner: Callable[[], Any] = staticmethod(lambda: None)
    """Gives what must live as long as memory that was lent from here: the engine."""

    def __init__(self, driver: Driver, ordinal: int, artifact: Artifact, facts: LaunchFacts, report: Path) -> None:
        self.driver, self.ordinal, self.facts = driver, ordinal, facts
        self._device, self.context = driver.open(ordinal)
        self._module: Any = None
        self._blas: Cublas | None = None
        self._kernels: dict[int, Kernel] = {}
        self._workspaces: dict[tuple[int, str], int] = {}
        self._lock = threading.RLock()
        self._arguments: list[Arguments] = []
        self.memory = Memory(driver)
        try:
            with driver.within(self.context):
                self._open(artifact, report)
        except BaseException:
            self.close()
            raise

    def _open(self, artifact: Artifact, report: Path) -> None:
        attribute = self.driver.api.CUdevice_attribute
        self.name = self._name()
        major = self.attribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
        minor = self.attribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
        self.architecture = 10 * major + minor
        self.multiprocessors = self.attribute(attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
        self.threads = self.attribute(attribute.CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR)
        highest = 1e3 * self.attribute(attribute.CU_DEVICE_ATTRIBUTE_CLOCK_RATE)  # Hz
        self.cycle_nanoseconds = 1e9 / max(highest, 1.0)
        self.most_shared = self.attribute(attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
        self.built_for, image, self.report = chosen_image(report, self.architecture, self.name)
        doing = f"loading code on {self.name} with a driver for CUDA {self.driver.version()}"
        self._module = self.driver("cuModuleLoadData", image, doing=doing)
        self.stream = self.driver("cuStreamCreate", 1)  # one that does not wait for the legacy default stream
        self.memory.streams.append(self.stream)
        weights = [gathered(artifact, *group) for group in self.facts.weights]
        self._weights = [self._upload(array) for array in weights]
        self._template = [self._fixed(p.role, p.index) for p in self.facts.parameters]
        places: dict[tuple[str, int], int] = {(p.role, p.index): i for i, p in enumerate(self.facts.parameters)}
        self.input_places = [places.get(("input", i)) for i in range(len(artifact.inputs))]
        self.output_places = [places.get(("output", i)) for i in range(len(artifact.outputs))]
        self._numbers = tuple(places.get((role, 0)) for role in ("batch", "iterations", "workspace", "ticks"))

    def attribute(self, name: Any) -> int:
        """A number that describes the GPU."""
        return int(self.driver("cuDeviceGetAttribute", name, self._device))

    def kernel(self, batch: int) -> Kernel:
        """The kernel for so many problems."""
        number = self.facts.form(batch)
        found = self._kernels.get(number)
        if found is None:
            with self._lock, self.driver.within(self.context):
                found = self._kernels[number] = self._prepare(self.facts.forms[number])
        return found.at(batch)

    def arguments(
        self, kernel: Kernel, inputs: Sequence[int], outputs: Sequence[int], batch: int, iterations: int,
        workspace: int = 0, ticks: int = 0,
    ) -> list[int]:  # fmt: skip
        """The words of a launch in the order of the kernel's parameters; `inputs` and `outputs` are addresses."""
        words = self._template.copy()
        for place, address in zip((*self.input_places, *self.output_places), (*inputs, *outputs), strict=True):
            if place is not None:
                words[place] = address
        for place, value in zip(self._numbers, (batch, iterations, workspace, ticks), strict=True):
            if place is not None:
                words[place] = value
        return words

    def launch(self, kernel: Kernel, words: Sequence[int], blocks: int, stream: Any, marks: Sequence[Any] = ()) -> None:
        """Put a launch into a stream; the words are copied before this returns. The context is current.

        `marks`: events between the parts of a list of launches, which other kernels do not have.
        """
        if isinstance(kernel, ListKernel):
            kernel.run(self.driver, words, stream, marks)
            return
        try:
            packed = self._arguments.pop()
        except IndexError:
            packed = Arguments(len(words))
        packed.pack(words)
        form = kernel.form
        doing = f"launching {blocks} blocks of {form.threads} threads"
        shape = (kernel.function, blocks, 1, 1, form.threads, 1, 1, form.shared_bytes, stream, packed.table)
        if form.cooperative:
            self.driver("cuLaunchCooperativeKernel", *shape, doing=doing)
        else:
            self.driver("cuLaunchKernel", *shape, 0, doing=doing)
        self._arguments.append(packed)

    def workspace(self, kernel: Kernel, stream: Any) -> int:
        """The address of the workspace for launches into a stream, which run one after the other; 0 for none.

        Each form has its own: the words at which the blocks of a grid wait for each other must stay as they left them.
        A launch that is being captured into a graph gets one of its own, since graphs run when they like.
        """
        size = kernel.workspace_bytes()
        if not size:
            return 0
        key = int(stream), kernel.form.name
        if self._captures(stream):
            with self._outside_of_graphs():
                return self._zeroed(size, self.stream, wait=True)
        with self._lock:
            known = self._workspaces.get(key, 0)
            if not known or self.memory.size(known) < size:
                if known:
                    self.driver("cuStreamSynchronize", stream)
                    self._workspaces.pop(key)
                    self.memory.free(known)
                known = self._workspaces[key] = self._zeroed(size, stream)
            return known

    def put_workspace(self, words: list[int], kernel: Kernel, stream: Any) -> None:
        """Write the address of the workspace for launches into a stream among the words of one."""
        place = self._numbers[2]
        if place is not None:
            words[place] = self.workspace(kernel, stream)

    def lend(self, size: int, stream: Any) -> tuple[int, bool]:
        """Memory that work in a stream fills, and whether it is to come back by `memory.give_back`.

        What came back is lent again at once, to a stream that waits for everything that may still read it. What a
        graph is to fill stays with it, since graphs run when they like. The context is current.
        """
        if self._captures(stream):
            with self._outside_of_graphs():
                return self.memory.lend(size, fresh=True)[0], False
        address, used = self.memory.lend(size)
        if used:
            try:
                self.driver.wait_for_all(self.context, stream)
            except BaseException:
                self.memory.give_back(address)
                raise
        return address, True

    def new_workspace(self, kernel: Kernel) -> int:
        """A workspace for one bound call, for `memory.give_back`; 0 where the kernel needs none."""
        size = kernel.workspace_bytes()
        if not size:
            return 0
        address, _ = self.lend(size, self.stream)
        try:
            self.driver("cuMemsetD8Async", address, 0, size, self.stream)
            self.driver("cuStreamSynchronize", self.stream)
        except BaseException:
            self.memory.give_back(address)
            raise
        return address

    def wait(self, stream: Any, other: Any) -> None:
        """Have a stream wait for what is in another now."""
        with self.driver.within(self.context):  # an event is of the context that is current when it is made
            event = self.driver("cuEventCreate", 2)  # without a time
            try:
                self.driver("cuEventRecord", event, other)
                self.driver("cuStreamWaitEvent", stream, event, 0)
            finally:
                self.driver.quietly("cuEventDestroy", event)

    def read(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], stream: Any) -> np.ndarray:
        """A copy of memory on the GPU, once what is in the stream is done."""
        array = np.empty(shape, dtype)
        with self.driver.within(self.context):
            if array.nbytes:
                self.driver("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, stream)
            self.driver("cuStreamSynchronize", stream, doing="solving")
        return array

    def close(self) -> None:
        """Give everything back."""
        driver = self.driver
        context, self.context = self.context, None
        if context is None:
            return
        _, *before = driver.api.cuCtxGetCurrent()
        driver.quietly("cuCtxSetCurrent", context)
        self.memory.close()
        if self._blas is not None:
            self._blas.close()
        if self._module is not None:
            driver.quietly("cuModuleUnload", self._module)
        driver.quietly("cuCtxSetCurrent", *(before or [0]))
        driver.quietly("cuDevicePrimaryCtxRelease", self._device)

    def _name(self) -> str:
        return bytes(self.driver("cuDeviceGetName", 256, self._device)).split(b"\0")[0].decode(errors="replace")

    def _prepare(self, form: Form) -> Kernel:
        if form.launches is not None:
            return self._prepare_list(form, form.launches)
        driver, api, name = self.driver, self.driver.api, form.kernel
        function = driver("cuModuleGetFunction", self._module, name.encode(), doing=f"looking for the kernel {name}")
        if form.shared_bytes > self.most_shared:
            raise TargetError(
                f"back end cuda on {self.name}", f"a block takes {form.shared_bytes} bytes of shared memory",
                f"{self.most_shared} bytes", "Use a newer GPU, or backend='c'.",
            )  # fmt: skip
        if form.shared_bytes > _FREE_SHARED:
            largest = api.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            driver("cuFuncSetAttribute", function, largest, form.shared_bytes)
        each = int(driver("cuOccupancyMaxActiveBlocksPerMultiprocessor", function, form.threads, form.shared_bytes))
        if each < 1:
            raise TargetError(
                f"back end cuda on {self.name}", f"a block of {form.threads} threads does not fit a multiprocessor",
                "blocks that its registers and shared memory hold", "Compile the model again on this machine.",
            )  # fmt: skip
        return Kernel(form, name, function, each * self.multiprocessors, each)

    def _prepare_list(self, form: Form, launches: LaunchList) -> ListKernel:
        with self._outside_of_graphs():
            self._blas = self._blas or Cublas(launches.tf32, self.driver.blas)
        functions = {
            name: self.driver("cuModuleGetFunction", self._module, name.encode(), doing=f"looking for {name}")
            for name in launches.kernels
        }
        main, each = launches.main_kernel(), 0
        name = "" if main is None else main.kernel
        function = functions.get(name)
        if function is not None:
            each = int(self.driver("cuOccupancyMaxActiveBlocksPerMultiprocessor", function, form.threads, 0))
        return ListKernel(
            form, name, function, each * self.multiprocessors, each, launches, functions, self._blas, self.architecture,
            self.facts.parameters,
        )  # fmt: skip

    def _fixed(self, role: str, index: int) -> int:
        return self._weights[index] if role == "weights" else 0

    def _upload(self, array: np.ndarray) -> int:
        address = self.memory.allocate(array.nbytes, "the weights")
        if array.nbytes:
            self.driver("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, self.stream)
            self.driver("cuStreamSynchronize", self.stream)
        return address

    def _zeroed(self, size: int, stream: Any, wait: bool = False) -> int:
        address = self.memory.allocate(size, "the workspace")
        try:
            self.driver("cuMemsetD8Async", address, 0, size, stream)
            if wait:
                self.driver("cuStreamSynchronize", stream)
        except BaseException:
            self.memory.free(address)
            raise
        return address

    def _captures(self, stream: Any) -> bool:
        status = self.driver("cuStreamIsCapturing", stream)
        return bool(status != self.driver.api.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE)

    @contextmanager
    def _outside_of_graphs(self) -> Iterator[None]:
        """What is done while a stream is captured, as the driver allows where it is told that this is meant."""
        modes = self.driver.api.CUstreamCaptureMode
        before = self.driver("cuThreadExchangeStreamCaptureMode", modes.CU_STREAM_CAPTURE_MODE_RELAXED)
        try:
            yield
        finally:
            self.driver.quietly("cuThreadExchangeStreamCaptureMode", before)


def chosen_image(report: Path, architecture: int, name: str) -> tuple[int, bytes, dict[str, Any]]:
    """The architecture whose code a GPU runs, that code, and what the assembler said of its kernels.

    Code runs on GPUs of the same generation that are as new or newer. Raises ToolError where there is none or it is
    damaged.
    """
    where = f"back end cuda on {name}"
    found: dict[int, dict[str, Any]] = {}
    for key, item in json.loads(report.read_text(encoding="utf-8"))["architectures"].items():
        found[int(key.removeprefix("sm_"))] = item
    suitable = [a for a in found if a // 10 == architecture // 10 and a <= architecture]
    again = "Compile the model again on this machine."
    if architecture < LOWEST:
        found_it = f"its compute capability is {architecture / 10}"
        raise ToolError(where, found_it, f"{LOWEST / 10} or later", "Use a newer GPU.")
    if not suitable:
        made = ", ".join(f"sm_{a}" for a in sorted(found)) or "no GPU, but for numba's simulator"
        raise ToolError(where, f"the code was compiled for {made}", f"code for sm_{architecture}", again)
    best = max(suitable)
    file = report.with_name(Path(found[best]["file"]).name)
    try:
        image = file.read_bytes()
    except OSError as error:
        raise ToolError(str(file), f"it cannot be read ({error.strerror})", "code for this GPU", again) from None
    if sha256(image).hexdigest() != found[best]["sha256"]:
        raise ToolError(str(file), "its content is not what was compiled", "the file as it was written", again)
    return best, image, dict(found[best]["kernels"])
