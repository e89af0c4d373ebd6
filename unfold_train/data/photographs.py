"""The photographs inside the scikit-image wheel, as grey values in [0, 1]; nothing is ever downloaded."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unfoldc.errors import InputError

Picture = NDArray[np.float32]

TRAINING = (
    "astronaut.png",
    "brick.png",
    "coffee.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
"""Photographs to learn from; motorcycle_right shows the same scene as motorcycle_left and stays out of both lists."""

TEST = ("camera.png", "chelsea.png", "coins.png")
"""Photographs that only the final figures are taken on."""

# Rec. 709 luminance of red, green, blue.
_GREY = np.array([0.2125, 0.7154, 0.0721], dtype=np.float32)


def photograph(name: str) -> Picture:
    """The grey photograph (height, width), such as `photograph("camera.png")`.

    Raises InputError where scikit-image is missing or has no such photograph.
    """
    if name not in TRAINING + TEST:
        raise InputError("photograph", repr(name), ", ".join(TRAINING + TEST), "Choose one of these.")
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise InputError("photograph", "scikit-image is missing", "scikit-image", "Run pip install scikit-image.")
    path = Path(found.origin).parent / "data" / name
    if not path.is_file():
        raise InputError(
            f"photograph {name}",
            "this scikit-image does not hold the file",
            "the wheel from PyPI",
            "Run pip install --force-reinstall scikit-image.",
        )
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image, dtype=np.float32) / 255
    return np.ascontiguousarray(pixels[..., :3] @ _GREY if pixels.ndim == 3 else pixels)
