"""The demo: the main job end to end, on photographs."""

from unfoldc.demo.run import run

__all__ = ["run"]
