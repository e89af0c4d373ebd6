"""Solvers on devices that are connected to this computer: what they speak, how they are reached."""

if __name__ != "unfoldc.targets.remote":
    raise ImportError("import this package as unfoldc.targets.remote; the folder is not a package of its own")
