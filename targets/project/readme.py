"""The README of a project: figures, how to build, test and call."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels.artifact import Artifact, Port
from unfoldc.kernels.printers.c_api.text import C_TYPES, clean
from unfoldc.targets.description import Target
from unfoldc.targets.project.figures import Figures
from unfoldc.targets.project.places import Place
from unfoldc.targets.project.selftest import SelfTest
from unfoldc.targets.project.templates import fill
from unfoldc.targets.project.toolchain_files import compiler_flags, gnu_packages
from unfoldc.targets.toolchains import FAST_MATH
from unfoldc.targets.tools import DEBIAN_PACKAGES

_RUNNER = """
To time the solver on the board from your desk, link `unfoldc_@S_runner`, write the two functions in
`runner/unfoldc_runner.h` for your UART, call `unfoldc_runner_serve()` from `main`, flash it, and run
`unfoldc profile <this folder> --on serial:/dev/ttyACM0`. It measures the stack as well, if the runner is compiled with
`-DUNFOLDC_RUNNER_STACK_LOW=symbol`, your linker script's lowest address of the stack.
"""

_METAL = """\
## On the board

Take your vendor's start-up code and linker script, and leave out `platform/`, which is for the emulator. Then

```c
#include "selftest/selftest.h"

int computes_as_meant(void) {
    static @S_selftest_result result; /* .output, .element, .found, .expected: of the first that differs */
    return @S_selftest(&result) == 0;
}
```

tells whether your compiler, flags and board compute what was meant. It takes `selftest/selftest.c` and
`selftest/selftest_data.c` among your sources, and this folder in the include path. It calls no C library;
`@S_selftest_text()` says the result in a line, for whatever output there is. Its data take @ROOM bytes of flash.
"""

_LINUX = """\
## On the board

Programs are linked statically: copy `build/gcc/@S_selftest` to the board and run it there. Or copy this folder and
build on the board itself: `cmake -B build && cmake --build build && ctest --test-dir build`.
"""


def readme(artifact: Artifact, target: Target, place: Place, test: SelfTest, figures: Figures, version: str) -> str:
    """`README.md`."""
    core, symbol = target.core, artifact.symbol
    assert core is not None
    room = sum(value.nbytes for value in (*test.inputs, *test.expected))
    names = [f"input_{i}" for i in range(len(artifact.inputs))], [f"output_{i}" for i in range(len(artifact.outputs))]
    clang = "the GNU compiler links" if not core.linux else "it takes their C library and linker"
    values = {
        "S": symbol,
        "TARGET": target.name,
        "SUMMARY": target.summary,
        "K": str(artifact.iterations),
        "VERSION": version,
        "PORTS": _ports(artifact),
        "FIGURES": _figures(artifact, target, figures),
        "NOTE": f"\n{test.note}\n" if test.note else "",
        "EMULATOR_NAME": place.name,
        "PACKAGES": gnu_packages(core),
        "CLANG": clang,
        "EMULATOR_PACKAGE": DEBIAN_PACKAGES[place.program],
        "COMMAND": f"{' '.join(place.command)} build/gcc/{symbol}_selftest",
        "STATE": str(artifact.memory.state_bytes),
        "ARRAYS": _arrays(artifact),
        "CALL": ", ".join([*names[0], *names[1]]),
        "BEGIN": ", ".join(names[0]),
        "END": ", ".join(names[1]),
        "EARLY": "after the last iteration only" if artifact.early_stop else "may be called after any iteration",
        "SOURCE_LIST": " and ".join(f"`{name}`" for name in sorted(artifact.sources) if name.endswith(".c")),
        "FLAGS": " ".join(("-O3", *compiler_flags(core, "gcc"), *FAST_MATH)),
        "BOARD": _board(symbol, target, room),
        "FILES": _files(symbol, target.has_system),
        "LOAD": _LOAD,
    }
    return fill("README.md", values)


_LOAD = """\
`unfoldc.load("<this folder>")` opens the solver again, in its emulator. It checks the solver's sources and `unfoldc/`,
so leave those as they are. When the solver is compiled into this folder again, files that you added stay, files that
you changed stay (the command names them), and changed sources of the solver are not overwritten: the command stops."""


def _ports(artifact: Artifact) -> str:
    def row(name: str, port: Port) -> str:
        return f"| `{name}` | `{clean(port.name)}` | {' x '.join(map(str, port.shape)) or 'scalar'} | {port.dtype} |\n"

    rows = [row(f"input_{i}", port) for i, port in enumerate(artifact.inputs)]
    return "".join([*rows, *(row(f"output_{i}", port) for i, port in enumerate(artifact.outputs))])


def _arrays(artifact: Artifact) -> str:
    """The arrays of the example, declared."""
    ports = [(f"input_{i}", port, "your measurement") for i, port in enumerate(artifact.inputs)]
    ports += [(f"output_{i}", port, "the answer") for i, port in enumerate(artifact.outputs)]
    return "".join(
        f"static {C_TYPES[p.dtype]} {name}[{max(p.size, 1)}]; /* {clean(p.name)}: {what} */\n"
        for name, p, what in ports
    )


def _figures(artifact: Artifact, target: Target, figures: Figures) -> str:
    stack = figures.stack_bound_bytes
    system = target.has_system  # which gives a program as much as it has
    rows = [
        (
            "code and constants" if system else "flash",
            _of(figures.flash_bytes, None if system else target.spec.flash_bytes),
        ),
        ("RAM, the stack not counted", _of(figures.ram_bytes, None if system else target.spec.ram_bytes)),
        ("stack of any call, interrupts not counted", "not known" if stack is None else f"at most {stack} bytes"),
        ("state", f"{artifact.memory.state_bytes} bytes"),
        ("constants", f"{artifact.memory.constant_bytes} bytes"),
    ]
    if figures.iterate:
        total = figures.begin + sum(figures.iterate) + figures.end
        rows += [
            ("instructions of an iteration, on the problem of the self-test", figures.per_iteration),
            ("instructions of that solve", f"{total} (begin {figures.begin}, end {figures.end})"),
        ]
    else:
        rows.append(("instructions of an iteration", f"not counted: {figures.why}"))
    versions = ", ".join(f"{name} {number}" for name, number in figures.versions.items()) or "a compiler not recorded"
    rows.append(("what was measured", f"the solver, buffers of its arrays and start-up code, by {versions}"))
    rows.append(("other compilers", "other sizes and another stack, which `-fstack-usage` tells function by function"))
    return "".join(f"| {name} | {text} |\n" for name, text in rows)


def _of(size: int | None, limit: int | None) -> str:
    if size is None:
        return "not known"
    return f"{size} bytes" + (f" of {limit}" if limit else "")


def _board(symbol: str, target: Target, room: int) -> str:
    core = target.core
    if core is not None and core.linux:
        return _LINUX.replace("@S", symbol)
    clock = ""
    if target.name == "esp32-c3":
        clock = "\nThis chip has no `mcycle`: compile what includes `unfoldc_clock.h` with `-DUNFOLDC_CLOCK_ESP32C3`.\n"
    return (_METAL + _RUNNER).replace("@S", symbol).replace("@ROOM", str(room)) + clock


def _files(symbol: str, linux: bool) -> str:
    rows: Sequence[tuple[str, str, str]] = (
        (f"`{symbol}.h`, `{symbol}.c`", "the solver", "no"),
        (f"`{symbol}_weights.h`, `{symbol}_weights.c`", "its constants" + ("" if linux else ", for flash"), "no"),
        ("`main.c`", "an example that solves and times each iteration", "yes"),
        ("`CMakeLists.txt`, `CMakePresets.json`, `cmake/`", "for CMake 3.21 and later", "yes"),
        ("`selftest/`", "a stored problem and its answer, and a program that compares", "no"),
        ("`runner/`", "answers `unfoldc ... --on`, given two functions that read and write bytes", "no"),
        ("`unfoldc_clock.h`", "the processor's counter: a time stamp is one read of it", "no"),
        (
            "`platform/`",
            "output of the programs" if linux else "start-up code, linker script and output for the emulator",
            "yes",
        ),
        ("`artifact.json`, `unfoldc/`", "what `unfoldc.load` needs: the model, the program of its emulator", "no"),
    )
    return "".join(f"| {files} | {what} | {whose} |\n" for files, what, whose in rows)
