"""Makes the code that `test_on_gpu.py` runs, for a machine that has a GPU but no compiler for it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from cuda_artifact import crashing_artifact, cuda_artifact
from listed_artifact import listed_artifact

from unfoldc.targets.cuda.build import build_cubins

if __name__ == "__main__":
    folders = [Path(sys.argv[1]) / name for name in ("solver", "crashing", "listed")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for folder, artifact in zip(
        folders, (cuda_artifact(), crashing_artifact(), listed_artifact(folders[-1])[1]), strict=True
    ):
        print(build_cubins(artifact, folder))
