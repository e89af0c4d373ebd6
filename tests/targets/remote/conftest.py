"""A runner of the small hand-written solver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from remote_runners import build_with

from unfoldc.kernels.artifact import Artifact


@pytest.fixture(scope="session")
def artifact(lista: Any) -> Artifact:
    return lista.artifact("host")


@pytest.fixture(scope="session")
def runner(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_with("gcc", artifact, tmp_path_factory.mktemp("runner"))
