"""Tools from Debian that a test takes: it skips where one is not installed, but fails under continuous integration."""

from __future__ import annotations

import os

import pytest

from unfoldc.targets.tools import debian_command, missing_tools


def needs_tool(*programs: str) -> pytest.MarkDecorator:
    """A mark for a test that runs these programs."""
    missing = missing_tools(programs)
    reason = f"{', '.join(missing)} not installed: {debian_command(missing)}"
    return pytest.mark.skipif(bool(missing) and not os.environ.get("UNFOLDC_CI"), reason=reason)
