"""The files of a project as they stand in `templates/`, with `@NAME@` where something is to be filled in."""

from __future__ import annotations

import re
from importlib.resources import files

_PLACE = re.compile(r"@([A-Z_]+)@")


def fill(template: str, values: dict[str, str]) -> str:
    """The text of `templates/<template>.in`; each name in it must be among `values`."""
    text = files(__package__).joinpath("templates", f"{template}.in").read_text(encoding="utf-8")
    return _PLACE.sub(lambda place: values[place[1]], text)
