"""A process between us and a TVM RPC server: frames come on standard input, answers go to standard output.

TVM's client waits without a limit and cannot be interrupted; a process can be ended. It is started with one argument, a
JSON object: host, port, key ("": the port is a server's, else a tracker's), library, response (bytes), seconds (that
an answer may take), session (s).
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import IO, Any

from unfoldc.errors import printable
from unfoldc.targets.remote.process_channel import MARK
from unfoldc.targets.remote.protocol import FRAME_BYTES, HEADER_BYTES

FAILED = 3
"""Exit status where a line on standard error says what is wrong."""
_MOMENT = 0.5  # s


def main(ask: dict[str, Any], source: IO[bytes], sink: IO[bytes]) -> None:
    """Connect, bring the library there, pass requests on until the input ends."""

    def say(text: str) -> None:
        sink.write(MARK + printable(text).encode() + b"\n")
        sink.flush()

    import numpy as np

    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]  # TVM would load it, which takes seconds

    session = _through_tracker(ask, say) if ask["key"] else _direct(ask)
    name = os.path.basename(ask["library"])
    session.upload(ask["library"], target=name)
    exchange = session.load_module(name)["exchange"]
    device = session.cpu(0)
    from tvm import runtime

    response = runtime.empty((ask["response"],), "uint8", device)
    say("run")
    while True:
        header = source.read(HEADER_BYTES)
        if len(header) < HEADER_BYTES:
            return
        length = int.from_bytes(header[8:12], "little")  # our own frames: the header is whole
        request = header + source.read(length + FRAME_BYTES - HEADER_BYTES)
        size = int(exchange(runtime.tensor(np.frombuffer(request, np.uint8), device), response, ask["seconds"]))
        if size < 0:
            _give_up(size)
        sink.write(response.numpy()[:size].tobytes())
        sink.flush()


def _direct(ask: dict[str, Any]) -> Any:
    from tvm import rpc

    return rpc.connect(ask["host"], ask["port"], session_timeout=ask["session"])


def _through_tracker(ask: dict[str, Any], say: Callable[[str], None]) -> Any:
    """A session with the next free board of the key; says so where that takes longer than a moment."""
    with socket.create_connection((ask["host"], ask["port"]), timeout=10):
        pass  # TVM would try for a minute
    from tvm import rpc

    def summary() -> Any:
        watcher = rpc.connect_tracker(ask["host"], ask["port"])
        try:
            return watcher.summary()
        finally:
            watcher.close()

    keys = sorted({s["key"].removeprefix("server:") for s in summary()["server_info"] if s.get("key")})
    if ask["key"] not in keys:
        raise RuntimeError(printable(f"the tracker knows no board '{ask['key']}'; it has {', '.join(keys) or 'none'}"))
    got, lock = threading.Event(), threading.Lock()

    def watch() -> None:
        if not got.wait(_MOMENT):
            pending = summary()["queue_info"].get(ask["key"], {}).get("pending", 0)
            with lock:
                if not got.is_set():
                    say(f"wait {pending}")  # `say` makes one line of whatever a tracker calls a number

    threading.Thread(target=watch, daemon=True).start()
    tracker = rpc.connect_tracker(ask["host"], ask["port"])
    session = tracker.request(ask["key"], session_timeout=ask["session"], max_retry=2)
    with lock:
        got.set()
    say("got")
    tracker.close()
    return session


def _give_up(result: int) -> None:
    """Raise the reason for a negative result of `exchange`, or end like the solver's process has ended."""
    if result == -1:
        raise RuntimeError("the library does not know the tensors it gets: another version of TVM's interface?")
    if result == -2:
        raise RuntimeError("no process can be started there for the solver")
    status = -1000 - result
    number = status & 0x7F  # of the signal, as waitpid gives it
    os._exit(128 + number if number else FAILED)


def _reason(error: BaseException) -> str:
    """The line that says what happened; TVM's errors are long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line or "rror:" in line]
    return (telling or lines or [type(error).__name__])[-1]


if __name__ == "__main__":
    # What libraries print must not get between the frames.
    frames = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        main(json.loads(sys.argv[1]), sys.stdin.buffer, frames)
    except BrokenPipeError:
        os._exit(FAILED)
    except Exception as failure:
        print(_reason(failure), file=sys.stderr, flush=True)
        os._exit(FAILED)  # TVM's shutdown may wait for a server that hangs
    os._exit(0)
