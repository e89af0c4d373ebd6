"""C sources that go onto devices as they are: the clock, the runner, its ports."""

from __future__ import annotations

from importlib.resources import files

if __name__ != "unfoldc.targets.device":
    raise ImportError("import this package as unfoldc.targets.device; the folder is not a package of its own")


def device_source(name: str) -> str:
    """The text of a file in this folder, such as `unfoldc_clock.h`."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")
