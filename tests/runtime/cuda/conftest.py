"""The small solver and a build of it with code that is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from cuda_artifact import cuda_artifact
from cuda_fakes import write_report

from unfoldc.kernels.artifact import Artifact


@pytest.fixture
def artifact() -> Artifact:
    return cuda_artifact()


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return write_report(tmp_path)
