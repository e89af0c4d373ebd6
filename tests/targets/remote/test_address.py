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


def test_names_and_options_are_taken_letter_by_letter() -> None:
    """Aliases in a configuration of ssh have capitals, folders a plus, commands a colon."""
    assert parse_address("ssh://Pi@MyPi").host == "MyPi"
    assert parse_address("ssh://Pi@[FE80::1%eth0]:22").host == "FE80::1%eth0"
    assert parse_address("ssh://pi?key=/c++/id%20rsa").options["key"] == "/c++/id rsa"
    assert parse_address("local?launch=qemu%20-L%20/a:b").options["launch"] == "qemu -L /a:b"


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
        ("local?launch=it's", "cannot be read (No closing quotation)"),
        ("local:folder", "nothing may follow"),
        ("qemu://host", "nothing may follow"),
        ("ssh://ho\nst", "cannot be printed"),
        ("tvm-rpc://host:1?key=a%0ab", "cannot be printed"),
        ("serial:/dev/x%00y", "cannot be printed"),
        ("ssh://$(id)", "no name of a host or a user"),
        ("ssh://`id`@host", "no name of a host or a user"),
    ],
)
def test_a_wrong_address_is_refused(text: str, found: str) -> None:
    with pytest.raises(InputError) as error:
        parse_address(text)
    assert found in error.value.found and error.value.do
