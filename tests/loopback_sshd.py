"""A real sshd on this computer, for the user that runs the tests, with keys and a configuration of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from unfoldc.targets.tools import find_tool

# Where the administrator's sshd shuts itself in until somebody has logged in; its package makes it, too, and it stays.
_PRIVILEGE_SEPARATION = Path("/run/sshd")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _key(folder: Path, name: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name], cwd=folder, check=True, timeout=60)
    return folder / name


@contextlib.contextmanager
def sshd(folder: Path, *options: str) -> Iterator[str]:
    """Runs while the block does; gives an address whose client configuration knows the host and has a key.

    `folder` then holds `config`, `id`, `known` and `log`, what sshd has said. `options`: more of its configuration.
    """
    folder.mkdir(exist_ok=True)
    port, host, user = free_port(), _key(folder, "host"), _key(folder, "id")
    (folder / "keys").write_bytes(Path(f"{user}.pub").read_bytes())
    (folder / "known").write_text(f"[127.0.0.1]:{port} {Path(f'{host}.pub').read_text()}")
    lines = [
        f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {host}", "PidFile none", "UsePAM no", "StrictModes no",
        f"AuthorizedKeysFile {folder / 'keys'}", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password", *options,
    ]  # fmt: skip
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    client = [f"UserKnownHostsFile {folder / 'known'}", "GlobalKnownHostsFile /dev/null", f"IdentityFile {user}"]
    client += ["IdentitiesOnly yes", "IdentityAgent none", "StrictHostKeyChecking yes"]
    (folder / "config").write_text("Host *\n" + "".join(f"  {line}\n" for line in client))
    if os.getuid() == 0:
        _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    program = find_tool("sshd")
    assert program, "sshd is not installed"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        _await_port(port, server)
        yield f"ssh://127.0.0.1:{port}?config={folder / 'config'}"
    finally:
        server.terminate()
        server.wait(30)


def _await_port(port: int, server: subprocess.Popen[bytes]) -> None:
    finish = time.monotonic() + 60
    while time.monotonic() < finish and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"sshd did not start (status {server.poll()})")
