"""NVIDIA's driver, whose failures become errors that a user can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unfoldc.errors import DeviceError, TargetError, ToolError, UnfoldcError
from unfoldc.targets.cuda.packages import NO_DRIVER

_PREFIX = "CUDA_ERROR_"
_CRASHES = (
    "ILLEGAL_ADDRESS", "LAUNCH_FAILED", "ASSERT", "MISALIGNED_ADDRESS", "ILLEGAL_INSTRUCTION", "HARDWARE_STACK_ERROR",
    "INVALID_ADDRESS_SPACE", "INVALID_PC", "LAUNCH_TIMEOUT", "ECC_UNCORRECTABLE", "CONTEXT_IS_DESTROYED",
)  # fmt: skip
_UPDATE = "Update the driver, or compile the model again with nvidia-nvvm and nvidia-nvjitlink of its version."
# What the driver says -> the class of error, what was found, what is allowed, what to do.
_MEANINGS: dict[str, tuple[type[UnfoldcError], str, str, str]] = {
    "NO_DEVICE": (ToolError, "the driver finds no GPU", "an NVIDIA GPU", "Run on another machine."),
    "NOT_INITIALIZED": (
        DeviceError, "the process was forked after its parent had opened the GPU", "GPUs opened by the process itself",
        "Start processes with multiprocessing's 'spawn', or make the first call in the child.",
    ),
    "SYSTEM_DRIVER_MISMATCH": (
        ToolError, "the driver was updated while it was loaded", "one version of it", "Restart the machine.",
    ),
    "SYSTEM_NOT_READY": (
        ToolError, "the GPUs are not ready", "GPUs whose services run, as NVIDIA's fabric manager",
        "Wait a little, or have these services started.",
    ),
    "COMPAT_NOT_SUPPORTED_ON_DEVICE": (
        ToolError, "a compatibility library of CUDA stands before the driver, and this GPU cannot use it",
        "the driver's own libcuda", "Take the folder of cuda-compat out of LD_LIBRARY_PATH, or update the driver.",
    ),
    "STUB_LIBRARY": (
        ToolError, "the libcuda that was found is a stub, which a toolkit has for linking", "the driver's own libcuda",
        "Take the toolkit's folder of stubs out of LD_LIBRARY_PATH, or install the driver.",
    ),
    "DEVICE_UNAVAILABLE": (
        ToolError, "another process has the GPU to itself", "a GPU that is free, or shared",
        "End that process, or see CUDA_VISIBLE_DEVICES for another GPU.",
    ),
    "OPERATING_SYSTEM": (
        ToolError, "the operating system refuses the driver", "rights on its devices, /dev/nvidia*",
        "See whether nvidia-smi answers; in a container, pass the GPU into it.",
    ),
    "UNKNOWN": (
        ToolError, "the driver does not work, and does not know why", "a driver that is loaded and a GPU that works",
        "See whether nvidia-smi answers; load the modules nvidia and nvidia_uvm, or restart the machine.",
    ),
    "OUT_OF_MEMORY": (
        TargetError, "the GPU's memory is full", "problems and weights that fit beside what is there",
        "Solve fewer problems at once, or end other programs on the GPU.",
    ),
    "NO_BINARY_FOR_GPU": (
        ToolError, "the code is for another GPU", "code for this one", "Compile the model again on this machine.",
    ),
    "INVALID_IMAGE": (
        ToolError, "the driver does not know this form of code", "code of its version of CUDA", _UPDATE,
    ),
    "UNSUPPORTED_PTX_VERSION": (
        ToolError, "the code is newer than the driver", "code of its version of CUDA", _UPDATE,
    ),
    "INVALID_PTX": (
        ToolError, "the driver refuses the code", "code as new as the driver", "Compile the model again here.",
    ),
    "LAUNCH_OUT_OF_RESOURCES": (
        TargetError, "a block takes more registers or threads than the GPU has", "what one multiprocessor has",
        "Compile the model again on this machine.",
    ),
    "COOPERATIVE_LAUNCH_TOO_LARGE": (
        TargetError, "more blocks than can run at once", "blocks that all run at once",
        "End other programs on the GPU, or compile the model again on this machine.",
    ),
    "STREAM_CAPTURE_UNSUPPORTED": (
        DeviceError, "a stream that is being captured into a graph cannot do this", "calls that were made before",
        "Call the solver once with these shapes before the capture.",
    ),
}  # fmt: skip


class Driver:
    """The driver's functions by name: `driver("cuMemAlloc", size)` gives what it returns beside the status.

    `api` is `cuda.bindings.driver` and `blas` `nvmath.bindings.cublas`, or what behaves alike; `doing` in the
    messages says what a call is for. Raises ToolError where the package or the driver is not installed.
    """

    def __init__(self, api: Any = None, blas: Any = None) -> None:
        self.blas = blas
        self.api = _bindings() if api is None else api
        try:
            self("cuInit", 0, doing="starting the driver")
        except UnfoldcError:
            raise
        except Exception as error:  # what the library raises for a missing driver lies deep within it
            raise ToolError(
                "back end cuda",
                f"{NO_DRIVER} ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
                "a driver of NVIDIA for the CUDA version of unfoldc's packages (13: 580 or later), and a GPU",
                "Install it, or use another back end; NUMBA_ENABLE_CUDASIM=1 simulates a GPU, for checking only.",
            ) from None

    def __call__(self, name: str, *arguments: Any, doing: str = "") -> Any:
        """What the driver's function returns: nothing, one value, or several."""
        error, *values = getattr(self.api, name)(*arguments)
        if int(error):
            raise self.failure(error, doing or name)
        return values[0] if len(values) == 1 else tuple(values) if values else None

    def failure(self, error: Any, doing: str) -> UnfoldcError:
        """The error that a status stands for."""
        name = str(getattr(error, "name", error)).removeprefix(_PREFIX)
        where = f"back end cuda, {doing}"
        if name in _MEANINGS:
            kind, found, allowed, do = _MEANINGS[name]
            return kind(where, f"{found} ({_PREFIX}{name})", allowed, do)
        if name in _CRASHES:
            return DeviceError(
                where,
                f"a kernel crashed, of this or another library ({_PREFIX}{name}), and the GPU is lost to this process",
                "kernels that stay within their arrays",
                "Start a new process; look with compute-sanitizer for the kernel that did it.",
            )
        return DeviceError(
            where, f"the driver answers {_PREFIX}{name}", "success", "See NVIDIA's list of errors for this name."
        )

    def version(self) -> str:
        """The version of CUDA that the driver is for."""
        found = int(self("cuDriverGetVersion"))
        return f"{found // 1000}.{found % 1000 // 10}"

    def open(self, ordinal: int) -> tuple[Any, Any]:
        """A device, and its context that all libraries of this process share, retained."""
        count = self("cuDeviceGetCount")
        if not 0 <= ordinal < count:
            found = "the driver finds no GPU" if not count else f"there is no GPU {ordinal}"
            allowed = "an NVIDIA GPU" if not count else f"0 to {count - 1}"
            raise ToolError("back end cuda", found, allowed, "Run on another machine, or see CUDA_VISIBLE_DEVICES.")
        device = self("cuDeviceGet", ordinal)
        return device, self("cuDevicePrimaryCtxRetain", device, doing="opening the GPU")

    def ordinal_of(self, address: int) -> int:
        """The GPU in whose memory an address is."""
        attribute = self.api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        if int(self("cuCtxGetCurrent")):  # that of whoever made the array, mostly
            return int(self("cuPointerGetAttribute", attribute, address, doing="looking for an array"))
        device, context = self.open(0)  # without a context, a thread may be told nothing
        try:
            with self.within(context):
                return int(self("cuPointerGetAttribute", attribute, address, doing="looking for an array"))
        finally:
            self.quietly("cuCtxSetCurrent", 0)
            self.quietly("cuDevicePrimaryCtxRelease", device)

    @contextmanager
    def within(self, context: Any) -> Iterator[None]:
        """Makes a context this thread's, and gives the thread back the one that it had."""
        before = self("cuCtxGetCurrent")
        same = int(before) == int(context)
        if not same:
            self("cuCtxSetCurrent", context)
        try:
            yield
        finally:
            if not same and int(before):
                self("cuCtxSetCurrent", before)

    def wait_for_all(self, context: Any, stream: Any) -> None:
        """Have a stream wait for all that is under way in a context, which is current.

        Drivers before CUDA 12.5 cannot; then it is waited for here.
        """
        event = self("cuEventCreate", 2)  # without a time
        try:
            try:
                recorded = self.quietly("cuCtxRecordEvent", context, event)
            except (AttributeError, RuntimeError):  # unknown to the bindings, or to the driver
                recorded = False
            if recorded:
                self("cuStreamWaitEvent", stream, event, 0)
            else:
                self("cuCtxSynchronize")
        finally:
            self.quietly("cuEventDestroy", event)

    @contextmanager
    def events(self, count: int) -> Iterator[list[Any]]:
        """Events that know when they were recorded; the context is current."""
        made: list[Any] = []
        try:
            for _ in range(count):
                made.append(self("cuEventCreate", 0))
            yield made
        finally:
            for event in made:
                self.quietly("cuEventDestroy", event)

    def quietly(self, name: str, *arguments: Any) -> bool:
        """Call without raising, to give something back; whether it succeeded."""
        return not int(getattr(self.api, name)(*arguments)[0])


def _bindings() -> Any:
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise ToolError(
            "back end cuda",
            f"the package cuda-bindings cannot be imported ({error})",
            "cuda-bindings 12.9 or later, with which solvers run",
            'Install it: python -m pip install "unfoldc[cuda]".',
        ) from None
    return driver
