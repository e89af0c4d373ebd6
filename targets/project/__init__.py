"""A solver as a project: C sources, build files, an example, a self-test, for an engineer to take into a product."""

from unfoldc.targets.project.figures import Figures
from unfoldc.targets.project.selftest import SelfTest
from unfoldc.targets.project.writer import project_files

if __name__ != "unfoldc.targets.project":
    raise ImportError("import this package as unfoldc.targets.project; the folder is not a package of its own")

__all__ = ["Figures", "SelfTest", "project_files"]
