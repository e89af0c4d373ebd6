"""From an address to a device that answers: builds what has to be there, brings it there, greets it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from unfoldc.kernels.artifact import Artifact
from unfoldc.targets.description import Target
from unfoldc.targets.remote.address import Address
from unfoldc.targets.remote.board_runner import board_of
from unfoldc.targets.remote.channels import Channel
from unfoldc.targets.remote.device import OTHER_SOLVER, Device
from unfoldc.targets.remote.process_channel import ProcessChannel
from unfoldc.targets.remote.runner_build import Kind, most_bytes
from unfoldc.targets.toolchains import Progress

BuildRunner = Callable[[Kind, str], Path]
"""Gives the runner of the solver, built for a kind and a processor ("": the target's usual one)."""


@dataclass(frozen=True)
class Job:
    """What is to run: the solver, the target it was compiled for, and how its runner is made."""

    artifact: Artifact
    target: Target
    build: BuildRunner
    progress: Progress


def connect(address: Address, job: Job) -> Device:
    """The device at `address` with the solver on it. Raises DeviceError, TargetError or ToolError."""
    return _OPENERS[address.scheme](address, job)


def needed_runner(address: Address, target: Target) -> Kind | None:
    """The kind of runner that has to be at the address; None where nobody but the user can build it."""
    if address.scheme == "serial":
        return "firmware" if board_of(target) is not None else None
    return _RUNNERS[address.scheme]


def _local(address: Address, job: Job) -> Device:
    """A process on this computer."""
    runner = job.build("program", address.options.get("cpu", ""))
    command = [*shlex.split(address.options.get("launch", "")), str(runner), address.runner_seconds]
    os.chmod(runner, 0o755)
    return _device(ProcessChannel(address.text, command), address, job)


def _device(channel: Channel, address: Address, job: Job, *, pad: bool = False, advice: str = OTHER_SOLVER) -> Device:
    start = max(address.timeout, 1.0)
    return Device(channel, job.artifact, timeout=address.timeout, start=start, pad=pad, advice=advice)


def _ssh(address: Address, job: Job) -> Device:
    """A computer that the user may log in to."""
    from unfoldc.targets.remote.ssh import open_ssh

    runner = job.build("program", address.options.get("cpu", ""))
    return _device(open_ssh(address, runner, job.progress), address, job)


def _tvm_rpc(address: Address, job: Job) -> Device:
    """A server of TVM's RPC, or the next free one of a farm."""
    from unfoldc.targets.remote.tvm_rpc import open_tvm_rpc

    library = job.build("library", address.options.get("cpu", ""))
    return _device(open_tvm_rpc(address, library, most_bytes(job.artifact), job.progress), address, job)


def _serial(address: Address, job: Job) -> Device:
    """A board whose firmware is the runner already."""
    from unfoldc.targets.remote.serial_port import open_serial

    advice = OTHER_SOLVER
    if needed_runner(address, job.target) is not None:
        advice = f"Flash {job.build('firmware', '')} and try again."
    return _device(open_serial(address), address, job, pad=True, advice=advice)


Opener = Callable[[Address, Job], Device]
_OPENERS: Mapping[str, Opener] = {"local": _local, "ssh": _ssh, "serial": _serial, "tvm-rpc": _tvm_rpc}
_RUNNERS: Mapping[str, Kind] = {"local": "program", "ssh": "program", "tvm-rpc": "library"}
