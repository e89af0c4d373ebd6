"""Makes `import unfoldc` work from the sources alone, where the package is not installed: a folder of links to them."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
_TOP = ("export", "kernels", "runtime", "targets", "unfold_train")


def ensure_unfoldc() -> None:
    """Put the links into the search path of this process and of those that it starts."""
    if importlib.util.find_spec("unfoldc") is not None:
        return
    tree = ROOT / "build" / "tree"
    package = tree / "unfoldc"
    package.mkdir(parents=True, exist_ok=True)
    for source in (*(ROOT / "src" / "unfoldc").iterdir(), *(ROOT / name for name in _TOP)):
        link = package / source.name
        if source.name != "__pycache__" and not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(source.resolve())
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(tree), os.environ.get("PYTHONPATH", "")]))
