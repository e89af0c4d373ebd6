"""C sources of an artifact -> a shared library for the running computer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from unfoldc.errors import ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.host_cpu import host_flags
from unfoldc.targets.toolchains import (
    C99,
    FAST_MATH,
    OPTIMISE,
    SANITIZE,
    STRICT,
    UNPACKED,
    Progress,
    build_folder,
    publish,
    run_compiler,
)

# An undefined function is found here, not when the library is loaded. Apple's linker does so unasked.
_LINK = ("-shared", "-fPIC", "-lm") if sys.platform == "darwin" else ("-shared", "-fPIC", "-Wl,-z,defs", "-lm")


def build_library(
    artifact: Artifact,
    folder: Path,
    *,
    objects: Sequence[Path] = (),
    strict: bool = False,
    sanitize: bool = False,
    flags: Sequence[str] = (),
    progress: Progress | None = None,
    timeout: float = 600.0,
) -> Path:
    """Compile all C sources of `artifact`, link them with `objects`, and return `<folder>/<symbol>.so`.

    `strict` makes warnings errors (-Wconversion and -Wdouble-promotion included); `sanitize` ends undefined behaviour
    in a trap; `flags` are added last. `timeout` in seconds. May be called by several threads and processes at once. A
    process that has loaded the file keeps what it loaded: use a fresh folder per artifact. Raises `ToolError`.
    """
    names = [name for name in artifact.sources if name.endswith(".c")]
    if not names and not objects:
        raise ToolError(
            where=f"building {artifact.symbol} for {artifact.target.name}",
            found=f"the back end '{artifact.backend}' made no C sources",
            allowed="artifacts with C sources or objects",
            do="Compile with backend='c'.",
        )
    library = f"{artifact.symbol}.so"
    processor = host_flags(artifact.target)
    extra = (*(STRICT if strict else ()), *(SANITIZE if sanitize else ()), *flags)
    with build_folder(folder, artifact.sources) as temporary:
        run_compiler(
            [
                *processor,
                *OPTIMISE,
                *FAST_MATH,
                *UNPACKED,
                *C99,
                *extra,
                *names,
                *(str(Path(o).resolve()) for o in objects),
                *_LINK,
                "-o",
                library,
            ],
            temporary,
            f"building {library}",
            library_key=("host", *processor),
            progress=progress,
            timeout=timeout,
        )
        return publish(temporary / library, folder / library)
