"""Makes the code that `test_on_gpu.py` runs, for a machine that has a GPU but no compiler for it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from cuda_artifact import crashing_artifact, cuda_artifact

from unfoldc.targets.cuda.build import build_cubins

if __name__ == "__main__":
    for name, artifact in (("solver", cuda_artifact()), ("crashing", crashing_artifact())):
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        print(build_cubins(artifact, folder))
