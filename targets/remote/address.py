"""Where a solver runs, as a text: `ssh://pi@raspberry.local?timeout=60`, `serial:/dev/ttyACM0?baud=115200`, ..."""

from __future__ import annotations

import math
import re
import shlex
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
# Configurations of ssh hand names to shells (ProxyCommand), to which other characters may be commands.
_HOST = re.compile(r"[A-Za-z0-9_.:%-]*")
_USER = re.compile(r"[A-Za-z0-9_.@+\\-]*")
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
    found = _read(text)
    scheme, host, path = found.scheme, found.host, found.path
    if scheme not in OPTIONS:
        raise _wrong(text, f"there is no way called {scheme or text!r}")
    for name in found.options:
        if name not in OPTIONS[scheme]:
            raise _wrong(text, f"{scheme} has no option {name!r}", f"the options {', '.join(OPTIONS[scheme])}")
    networked = scheme in ("ssh", "tvm-rpc")
    if networked and not host:
        raise _wrong(text, "it names no host")
    if scheme == "tvm-rpc" and found.port is None:
        raise _wrong(text, "it names no port")
    if scheme == "serial" and (not path or host):
        raise _wrong(text, "it names no device")
    more = path.strip("/") if networked else host or path
    if scheme != "serial" and more:
        raise _wrong(text, f"nothing may follow {'the host' if networked else scheme}, but there is {more!r}")
    for name in ("wait", "session"):
        found.seconds(name, 1.0)
    return replace(found, timeout=found.seconds("timeout", DEFAULT_TIMEOUT))


def _read(text: str) -> Address:
    """The parts of the text as they stand there, but for the time limit."""
    scheme, mark, query = text.partition("?")
    try:
        parts = urlsplit(text if ":" in scheme else f"{scheme}:{mark}{query}")
        given = parts.query.replace("+", "%2B")  # a space is %20, as in paths
        options = dict(parse_qsl(given, keep_blank_values=True, strict_parsing=bool(given)))
        user, port, path = unquote(parts.username or ""), parts.port, unquote(parts.path)
        shlex.split(options.get("launch", ""))
    except (ValueError, AttributeError) as error:
        raise _wrong(text, f"it cannot be read ({error})") from None
    where = parts.netloc.rpartition("@")[2]  # `parts.hostname` would be in small letters
    host = where[1:].partition("]")[0] if where.startswith("[") else where.partition(":")[0]
    if not all(map(str.isprintable, (text, user, path, *options.values()))):
        raise _wrong(text, "it holds characters that cannot be printed")
    if parts.password is not None or parts.fragment or host.startswith("-") or user.startswith("-"):
        raise _wrong(text, "passwords, fragments and names that start with - are not taken")
    for name, letters in ((host, _HOST), (user, _USER)):
        if not letters.fullmatch(name):
            raise _wrong(text, f"{name!r} is no name of a host or a user")
    return Address(text, parts.scheme, host, port, user, path, options)


def _wrong(text: str, found: str, allowed: str = "") -> InputError:
    return InputError(f"on {text}", found, allowed or ", ".join(EXAMPLES), "Correct the address.")
