"""A solver for a device -> the files of a project: sources, build files, example, self-test, README."""

from __future__ import annotations

from collections.abc import Sequence

from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.description import Target
from unfoldc.targets.device import device_source
from unfoldc.targets.project.example import example_values
from unfoldc.targets.project.figures import Figures
from unfoldc.targets.project.places import place_of
from unfoldc.targets.project.readme import readme
from unfoldc.targets.project.selftest import SelfTest, code_values, data_texts
from unfoldc.targets.project.templates import fill
from unfoldc.targets.project.toolchain_files import cmake_files
from unfoldc.targets.remote.runner_sources import runner_sources


def project_files(
    artifact: Artifact, target: Target, test: SelfTest, figures: Figures, version: str, objects: Sequence[str] = ()
) -> dict[str, str]:
    """Path in the folder -> text, without the solver's own sources; `version` is that of unfoldc.

    `objects` name files of machine code in the folder that belong to the solver. A name from the model stands in
    comments and in the README alone, reduced to 40 characters of [A-Za-z0-9_.].
    """
    core, symbol = target.core, artifact.symbol
    if core is None:
        raise ValueError(f"{target.name} takes no project")
    place = place_of(core)
    values = {"S": symbol, "VERSION": version, "PLACE": place.name}
    sources = [name for name in sorted(artifact.sources) if name.endswith(".c")]
    kind = "linux" if core.linux else core.architecture
    test_values = {**values, **code_values(symbol, artifact.outputs, len(artifact.inputs), test)}
    found = {
        **cmake_files(symbol, version, target, place, sources, objects),
        "main.c": fill("main.c", {**values, **example_values(artifact, bool(core.linux))}),
        "unfoldc_clock.h": device_source("unfoldc_clock.h"),
        "platform/platform.c": fill(f"platform_{kind}.c", values),
        "platform/platform.h": fill("platform.h", values),
        "selftest/selftest.c": fill("selftest.c", test_values),
        "selftest/selftest.h": fill("selftest.h", values),
        "selftest/main.c": fill("selftest_main.c", values),
        **{f"selftest/{name}": text for name, text in data_texts(symbol, version, test).items()},
    }
    found |= {f"runner/{name}": text for name, text in runner_sources(artifact).items() if name not in found}
    found["README.md"] = readme(artifact, target, place, test, figures, version)
    return found
