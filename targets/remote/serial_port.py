"""A board at a serial port: raw bytes, 8 data bits, no parity, one stop bit, no flow control."""

from __future__ import annotations

import contextlib
import fcntl
import os
import termios

from unfoldc.errors import InputError
from unfoldc.targets.remote.address import Address
from unfoldc.targets.remote.channels import DescriptorChannel, device_error

_BAUD = 115200


def open_serial(address: Address) -> DescriptorChannel:
    """The port of the address, for this process alone. Raises DeviceError where it cannot be opened."""
    rate = _rate(address.options.get("baud", str(_BAUD)))
    try:
        descriptor = os.open(address.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        do = "Connect the board and check the name of the port (Linux: dmesg, ls /dev/tty*)."
        if isinstance(error, PermissionError):
            do = "Let your user open it (Debian: usermod -aG dialout USER, then log in again)."
        raise device_error(address.text, f"it cannot be opened ({error.strerror})", do) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _set_up(descriptor, rate)
    except (OSError, termios.error) as error:
        os.close(descriptor)
        used = isinstance(error, BlockingIOError)
        found = "another program uses it" if used else f"it is no serial port ({error.args[-1]})"
        do = "End the other program." if used else "Name the port of the board."
        raise device_error(address.text, found, do) from None
    return DescriptorChannel(address.text, descriptor, descriptor)


def _set_up(descriptor: int, rate: int) -> None:
    """Raw mode: bytes pass as they are, and what is left in the buffers is dropped."""
    settings = termios.tcgetattr(descriptor)
    control = settings[6]
    control[termios.VMIN], control[termios.VTIME] = 0, 0
    flags = termios.CS8 | termios.CREAD | termios.CLOCAL
    termios.tcsetattr(descriptor, termios.TCSANOW, [0, 0, flags, 0, rate, rate, control])
    with contextlib.suppress(termios.error):
        termios.tcflush(descriptor, termios.TCIOFLUSH)


def _rate(text: str) -> int:
    """The constant of the operating system for a rate in bits per second."""
    known = sorted(int(name[1:]) for name in dir(termios) if name[:1] == "B" and name[1:].isdigit() and name != "B0")
    if not text.isdigit() or int(text) not in known:
        rates = ", ".join(str(n) for n in known if n >= 9600)
        raise InputError(f"baud={text}", "no rate that this system knows", rates, "Choose one of these.")
    rate: int = getattr(termios, f"B{int(text)}")
    return rate
