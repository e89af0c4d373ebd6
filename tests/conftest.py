"""What all tests share: one thread per worker, and caches that are not the user's."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Two workers with two threads each are slower on two cores, and sums made by one thread repeat to the last bit.
# Set before NumPy, Numba and torch are imported, which read it once.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "TVM_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# Which back end is the fastest hangs on the moment; tests that are about it give the measurement a clock of their own.
os.environ["UNFOLDC_AUTO"] = "first"


def pytest_configure(config: pytest.Config) -> None:
    """Give the run a cache folder of its own, in which no solver compiled by an earlier run is found.

    The C compiler's run-time libraries take seconds to build and do not depend on the project: they stay in build/.
    """
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist inherits the environment
        return
    temporary = tempfile.TemporaryDirectory(prefix="unfoldc-tests-")
    config.add_cleanup(temporary.cleanup)
    compiler = ROOT / "build" / "test-cache" / "zig"
    compiler.mkdir(parents=True, exist_ok=True)
    own = Path(temporary.name) / "unfoldc"
    own.mkdir(mode=0o700)
    (own / "zig").symlink_to(compiler)
    os.environ["XDG_CACHE_HOME"] = temporary.name


def pytest_collection_finish() -> None:
    """The modules stay to the end: the garbage collector need not look through them again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@pytest.fixture(autouse=True)
def _numbers_of_its_own(request: pytest.FixtureRequest) -> None:
    """What a test draws from PyTorch's generator hangs on its name, not on the tests before it in the same worker."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(zlib.crc32(request.node.name.encode()))
