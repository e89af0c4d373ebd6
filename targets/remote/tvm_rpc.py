"""A TVM RPC server, or through a tracker the next free one of a farm; the solver is a library that is uploaded."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from unfoldc.errors import DeviceError
from unfoldc.targets.description import require_packages
from unfoldc.targets.remote.address import Address
from unfoldc.targets.remote.channels import device_error
from unfoldc.targets.remote.process_channel import ProcessChannel, await_mark, explain_exit, last_line
from unfoldc.targets.remote.tvm_worker import FAILED

# TVM without its compiler, and (in the worker) without torch: 0.5 s instead of 6 s of a processor.
_LEAN = {"TVM_USE_RUNTIME_LIB": "1"}
_SESSION = 900.0
"""Seconds after which a server ends a session, whatever it does; a board that hangs comes back to its farm then."""
_WAIT = 3600.0
"""Seconds that a job waits for a board where the address does not say."""


def open_tvm_rpc(address: Address, library: Path, response: int, progress: Callable[[str], None]) -> ProcessChannel:
    """A channel to `library` on a server; an answer has at most `response` bytes. Raises DeviceError and ToolError."""
    require_packages(["apache-tvm"], f"running on {address.text}")
    key = address.options.get("key", "")
    ask = {
        "host": address.host,
        "port": address.port,
        "key": key,
        "library": str(library.resolve()),
        "response": response,
        "seconds": int(address.runner_seconds),
        "session": address.seconds("session", _SESSION),
    }
    command = [sys.executable, "-m", "unfoldc.targets.remote.tvm_worker", json.dumps(ask)]
    environment = {**os.environ, **_LEAN, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    progress(f"connecting to {address.host}")
    channel = ProcessChannel(address.text, command, explain=_explain, environment=environment)
    deadline = time.monotonic() + address.connect_timeout
    try:
        while (said := await_mark(channel, deadline)) != "run":
            if said.startswith("wait "):
                progress(f"waiting for a board '{key}' ({said[5:]} jobs in the queue)")
                deadline = time.monotonic() + address.seconds("wait", _WAIT)
            elif said == "got":
                deadline = time.monotonic() + address.connect_timeout
    except BaseException:
        channel.close()
        raise
    return channel


def _explain(name: str, status: int, words: str) -> DeviceError:
    if status != FAILED:
        return explain_exit(name, status, words)
    return device_error(
        name,
        f"TVM's RPC ended: {last_line(words) or 'no reason given'}",
        "See that the server (python -m tvm.exec.rpc_server) runs there with the same version of TVM, "
        "and that the solver was compiled for its processor.",
        "a TVM RPC server, or a tracker with ?key=",
    )
