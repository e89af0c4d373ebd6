"""Devices: what they are, how to build for them, how to run on them."""

from unfoldc.targets.boards import all_targets, find_target
from unfoldc.targets.description import Target

if __name__ != "unfoldc.targets":
    raise ImportError("import this package as unfoldc.targets; the folder is not a package of its own")

__all__ = ["Target", "all_targets", "find_target"]
