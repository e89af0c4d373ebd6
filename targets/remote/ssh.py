"""A computer behind ssh: one connection brings the runner there, starts it and speaks with it; ssh asks nothing."""

from __future__ import annotations

import hashlib
import math
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from unfoldc.errors import DeviceError
from unfoldc.targets.remote.address import Address
from unfoldc.targets.remote.channels import device_error
from unfoldc.targets.remote.process_channel import ProcessChannel, await_mark, explain_exit, last_line
from unfoldc.targets.tools import require_tools

_NO_PLACE, _NOT_WRITTEN, _NO_CONNECTION, _NOT_ALLOWED, _NOT_FOUND = 73, 74, 255, 126, 127

# For the POSIX shell there, in one line, so that whatever login shell passes it on leaves it alone. The runner's name
# is a digest of its content. Each session runs a hard link of its own to it, so that one session's end does not take
# it away from another; whichever finds it there need not send it. `head` gets no byte that is not its own: nothing more
# is sent before the answer.
_SCRIPT = (
    'umask 077; d="@FOLDER/unfoldc-$(id -u)"; f="$d/@NAME"; r="$f.$$"; '
    'fail() { echo "unfoldc: fail"; echo "$1" >&2; exit "$2"; }; '
    'trap \'rm -f "$r" "$r.part" @FORGET; rmdir "$d" 2>/dev/null\' EXIT; '
    "trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 141' PIPE; trap 'exit 143' TERM; "
    'mkdir -p "$d" 2>/dev/null; '
    'if [ ! -d "$d" ] || [ -L "$d" ] || [ ! -O "$d" ]; then fail "$d cannot be made, or is not yours" 73; fi; '
    'if ! ln "$f" "$r" 2>/dev/null; then echo "unfoldc: send"; '
    'head -c @SIZE >"$r.part"; '
    'if [ "$(($(wc -c <"$r.part")))" -ne @SIZE ]; then df -k "$d" | tail -n 1 >&2; '
    'fail "$d did not take @SIZE bytes" 74; fi; '
    'chmod 700 "$r.part" && mv "$r.part" "$r" || exit 74; ln "$r" "$f" 2>/dev/null; fi; '
    'echo "unfoldc: run"; @LAUNCH "$r" @SECONDS; exit $?'
)


def open_ssh(address: Address, runner: Path, progress: Callable[[str], None]) -> ProcessChannel:
    """A channel to `runner`, which was copied there and started. Raises DeviceError, and ToolError without ssh."""
    require_tools(["ssh"], f"running on {address.text}")
    content = runner.read_bytes()
    deadline = time.monotonic() + address.connect_timeout
    progress(f"connecting to {address.host}")
    channel = ProcessChannel(address.text, _command(address, content), explain=_explain)
    try:
        said = await_mark(channel, deadline)
        if said == "send":
            progress(f"copying the runner to {address.host} ({len(content) // 1024} KiB)")
            channel.write(content, deadline)
            said = await_mark(channel, deadline)
        if said != "run":
            raise channel.gone("")
    except BaseException:
        channel.close()
        raise
    return channel


def check_ssh(address: Address, progress: Callable[[str], None]) -> None:
    """Raises DeviceError unless ssh connects, and ToolError without ssh: before minutes are spent on a runner."""
    require_tools(["ssh"], f"running on {address.text}")
    progress(f"connecting to {address.host}")
    try:
        done = subprocess.run(
            [*_client(address), "exit 0"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=address.connect_timeout,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _explain(address.text, _NO_CONNECTION, f"no answer in {address.connect_timeout:g} s") from None
    if done.returncode == _NO_CONNECTION:
        raise _explain(address.text, _NO_CONNECTION, done.stderr)


def _client(address: Address) -> list[str]:
    """The command that ssh takes, but for what is to run there."""
    options = address.options
    wait = min(30, math.floor(address.connect_timeout))
    command = ["ssh", "-T", "-x", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={wait}"]
    command += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]
    if options.get("config"):
        command += ["-F", options["config"]]
    if options.get("key"):
        command += ["-i", options["key"], "-o", "IdentitiesOnly=yes"]
    if address.port is not None:
        command += ["-p", str(address.port)]
    if address.user:
        command += ["-l", address.user]
    return [*command, "--", address.host]


def _command(address: Address, content: bytes) -> list[str]:
    options = address.options
    folder = _quoted(options["folder"]) if options.get("folder") else '"${TMPDIR:-/tmp}"'
    kept = options.get("keep", "0") not in ("0", "")
    values = {
        '"@FOLDER': f'{folder}"',
        "@NAME": hashlib.sha256(content).hexdigest()[:32],
        "@FORGET": "" if kept else '"$f"',
        "@SIZE": str(len(content)),
        "@LAUNCH": " ".join(map(shlex.quote, shlex.split(options.get("launch", "")))),
        "@SECONDS": address.runner_seconds,
    }
    script = _SCRIPT
    for key, value in values.items():
        script = script.replace(key, value)
    return [*_client(address), f"exec sh -c {shlex.quote(script)}"]


def _quoted(folder: str) -> str:
    """For the shell there; `~/` is the home over there."""
    return f'"$HOME"/{shlex.quote(folder[2:])}' if folder.startswith("~/") else shlex.quote(folder)


def _explain(name: str, status: int, words: str) -> DeviceError:
    said = last_line(words)
    if status < 0:
        return device_error(name, f"ssh was ended here by signal {-status}", "Run it again.")
    if status == _NO_CONNECTION:
        return device_error(
            name,
            f"ssh: {said or 'it closed the connection'}",
            "See that `ssh -o BatchMode=yes` connects: with a key that needs no password, and a known host.",
            "a computer that ssh connects to without asking anything",
        )
    if status in (_NO_PLACE, _NOT_WRITTEN):
        found = f"the runner cannot be stored there: {'; '.join(words.strip().splitlines()[-3:])}"
        return device_error(name, found, "Make room there, or name another place by ?folder=FOLDER.")
    if status in (_NOT_ALLOWED, _NOT_FOUND):
        return device_error(
            name,
            f"the runner cannot be started there: {said}",
            "Compile for the processor that is there, correct ?launch=, or, where programs must not run in the "
            "temporary folder, name another by ?folder=FOLDER.",
        )
    return explain_exit(name, status, words)
