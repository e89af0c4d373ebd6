"""Where a solver runs, as a text: `ssh://pi@raspberry.local?timeout=60`, `serial:/dev/ttyACM0?baud=115200`, ..."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, unquote, urlsplit

from unfoldc.errors import InputError

# Scheme -> what it may be given behind the `?`.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "local": ("launch", "cpu", "timeout"),
    "ssh": ("launch", "cpu", "timeout", "key", "config", "folder", "keep"),
    "serial": ("baud", "timeout"),
    "tvm-rpc": ("key", "cpu", "timeout", "wait", "session"),
    "qemu": ("timeout",),
}
EXAMPLES = (
    "ssh://user@host[:port][?launch=COMMAND&key=FILE&config=FILE]",
    "serial:/dev/ttyACM0[?baud=115200]",
    "tvm-rpc://host:port[?key=BOARD]",
    "local[?launch=COMMAND]",
    "qemu",
)
DEFAULT_TIMEOUT = 60.0
_CONNECT_SECONDS = 20.0


@dataclass(frozen=True)
class Address:
    """One place. `path` is a serial device; `options` are texts; `timeout`: seconds that one answer may take."""

    text: str
    scheme: str
    host: str = ""
    port: int | None = None
    user: str = ""
    path: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    timeout: float = DEFAULT_TIMEOUT

    def seconds(self, name: str, otherwise: float) -> float:
        """The option `name`, a time in s; InputError for what is none."""
        value = self.options.get(name, str(otherwise))
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= 1e6:
            raise _wrong(self.text, f"{name}={value}", "seconds above 0")
        return seconds

    @property
    def connect_timeout(self) -> float:
        """Seconds to connect and to bring a runner there: more than a quick answer takes."""
        return max(self.timeout, _CONNECT_SECONDS)

    @property
    def runner_seconds(self) -> str:
        """The argument of a runner: the whole seconds after which it ends itself."""
        return str(math.ceil(self.timeout) + 1)


def parse_address(text: str) -> Address:
    """Read an address; InputError for what is none."""
    try:
        parts = urlsplit(text if ":" in text else f"{text.replace('?', ':?', 1) if '?' in text else text + ':'}")
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        host, port, user, path = parts.hostname or "", parts.port, unquote(parts.username or ""), unquote(parts.path)
    except (ValueError, AttributeError) as error:
        raise _wrong(text, f"it cannot be read ({error})") from None
    scheme = parts.scheme
    if scheme not in OPTIONS:
        raise _wrong(text, f"there is no way called {scheme or text!r}")
    for name in options:
        if name not in OPTIONS[scheme]:
            raise _wrong(text, f"{scheme} has no option {name!r}", f"the options {', '.join(OPTIONS[scheme])}")
    networked = scheme in ("ssh", "tvm-rpc")
    if networked and (not host or path.strip("/")):
        raise _wrong(text, "it names no host" if not host else f"nothing may follow the host, but there is {path!r}")
    if scheme == "tvm-rpc" and port is None:
        raise _wrong(text, "it names no port")
    if scheme == "serial" and (not path or host):
        raise _wrong(text, "it names no device")
    if parts.password is not None or parts.fragment or host.startswith("-") or user.startswith("-"):
        raise _wrong(text, "passwords, fragments and names that start with - are not taken")
    address = Address(text, scheme, host, port, user, path, options)
    for name in ("wait", "session"):
        address.seconds(name, 1.0)
    return replace(address, timeout=address.seconds("timeout", DEFAULT_TIMEOUT))


def _wrong(text: str, found: str, allowed: str = "") -> InputError:
    return InputError(f"on {text}", found, allowed or ", ".join(EXAMPLES), "Correct the address.")
