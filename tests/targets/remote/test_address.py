"""Addresses: what they say, and what is said of wrong ones."""

from __future__ import annotations

import pytest

from unfoldc.errors import InputError
from unfoldc.targets.remote.address import parse_address


def test_the_parts_of_an_address() -> None:
    ssh = parse_address("ssh://pi@raspberry.local:2222?launch=qemu-aarch64-static%20-cpu%20max&timeout=5")
    assert (ssh.scheme, ssh.user, ssh.host, ssh.port, ssh.timeout) == ("ssh", "pi", "raspberry.local", 2222, 5.0)
    assert ssh.options["launch"] == "qemu-aarch64-static -cpu max"
    assert ssh.runner_seconds == "6"
    serial = parse_address("serial:/dev/ttyACM0?baud=57600")
    assert (serial.path, serial.options["baud"]) == ("/dev/ttyACM0", "57600")
    farm = parse_address("tvm-rpc://[::1]:9190?key=rpi4")
    assert (farm.host, farm.port, farm.options["key"]) == ("::1", 9190, "rpi4")
    assert parse_address("local").scheme == parse_address("local?timeout=3").scheme == "local"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("telnet://host", "no way called 'telnet'"),
        ("", "no way called"),
        ("ssh://", "names no host"),
        ("ssh://host/folder", "nothing may follow"),
        ("ssh://host:port", "cannot be read"),
        ("ssh://-oProxyCommand=x", "start with -"),
        ("ssh://-x@host", "start with -"),
        ("ssh://me:secret@host", "passwords"),
        ("ssh://host?baud=9600", "no option 'baud'"),
        ("ssh://host?timeout=soon", "timeout=soon"),
        ("ssh://host?timeout=-1", "timeout=-1"),
        ("serial:", "names no device"),
        ("serial://host/dev/x", "names no device"),
        ("tvm-rpc://host", "names no port"),
        ("tvm-rpc://host:1?wait=nan", "wait=nan"),
        ("local?x", "cannot be read"),
    ],
)
def test_a_wrong_address_is_refused(text: str, found: str) -> None:
    with pytest.raises(InputError) as error:
        parse_address(text)
    assert found in error.value.found and error.value.do
