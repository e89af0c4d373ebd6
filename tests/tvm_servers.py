"""TVM's own RPC servers and tracker in processes, on loopback; without torch they start in a second."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from loopback_sshd import free_port


@contextlib.contextmanager
def tracker(folder: Path) -> Iterator[int]:
    """The port of a tracker that runs while the block does."""
    with _serving(folder, "rpc_tracker", []) as port:
        yield port


@contextlib.contextmanager
def server(folder: Path, tracked: int = 0, key: str = "") -> Iterator[int]:
    """The port of a server, with a key at the tracker of that port."""
    with _serving(folder, "rpc_server", ["--tracker", f"127.0.0.1:{tracked}", "--key", key] if key else []) as port:
        yield port


@contextlib.contextmanager
def _serving(folder: Path, program: str, options: Sequence[str]) -> Iterator[int]:
    # TVM imports torch where there is one; this one says that there is none.
    (folder / "torch").mkdir(parents=True, exist_ok=True)
    (folder / "torch" / "__init__.py").write_text("raise ImportError('not wanted')\n")
    port = free_port()
    command = [sys.executable, "-m", f"tvm.exec.{program}", "--host", "127.0.0.1", "--port", str(port)]
    log = folder / f"{program}-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port-end", str(port + 1), *options],
            stdout=out, stderr=out, cwd=folder, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(folder), "TVM_USE_RUNTIME_LIB": "1"},
        )  # fmt: skip
    try:
        finish = time.monotonic() + 120
        while b"bind to" not in log.read_bytes():
            assert process.poll() is None and time.monotonic() < finish, log.read_text(errors="replace")
            time.sleep(0.05)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)  # its workers too
        process.wait(30)
