"""Super-resolution of photographs, patch by patch, as sparse recovery: 1/2‖y - H Psi s‖² + rho‖s‖₁.

A picture is degraded by a Gaussian blur and a 2× downsampling. Each low-resolution patch of p × p pixels, less its
mean, is one problem y; it was blurred from a support of q × q pixels, q = 2 p + 4. The estimate is the centre
2 p × 2 p of the support; overlapping estimates are averaged into the picture.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from unfoldc.errors import InputError
from unfoldc.unfold_train.data.photographs import Picture

Array = NDArray[np.float32]
Solve = Callable[[Array], Array]

FACTOR = 2
_REACH = 2  # high-resolution pixels that the blur reaches beyond the two of its own low-resolution pixel


@dataclass(frozen=True)
class SuperResolution:
    """The problem and everything around it: operators, patches, and pictures from solved patches.

    `blur` is the standard deviation of the Gaussian in high-resolution pixels, `patch` the side p of a patch and
    `stride` the distance of patches in low-resolution pixels, `atoms` the number of cosines per axis.
    """

    blur: float = 1.0
    patch: int = 5
    stride: int = 2
    atoms: int = 12

    @property
    def support(self) -> int:
        """The side q of the high-resolution support of a patch."""
        return FACTOR * self.patch + 2 * _REACH

    @property
    def side(self) -> int:
        """The side of the estimate, 2 p."""
        return FACTOR * self.patch

    @functools.cached_property
    def taps(self) -> Array:
        """The blur along one axis, centred between the two high-resolution pixels of a low-resolution one."""
        reach = _REACH + 0.5
        at = np.arange(-reach, reach + 1)
        taps = np.exp(-(at**2) / (2 * self.blur**2))
        normalised: Array = (taps / taps.sum()).astype(np.float32)
        return normalised

    @functools.cached_property
    def H(self) -> Array:  # noqa: N802
        """Blur and downsampling of one support: (p², q²)."""
        one = np.zeros((self.patch, self.support), dtype=np.float64)
        for row in range(self.patch):
            one[row, FACTOR * row : FACTOR * row + len(self.taps)] = self.taps
        return np.kron(one, one).astype(np.float32)

    @functools.cached_property
    def Psi(self) -> Array:  # noqa: N802
        """The overcomplete cosine dictionary without its constant atom, columns of norm 1: (q², atoms² - 1)."""
        pixel = np.arange(self.support)[:, None] + 0.5
        waves = np.cos(np.pi * pixel * np.arange(self.atoms)[None] / self.atoms)
        waves[:, 1:] -= waves[:, 1:].mean(0)
        waves /= np.linalg.norm(waves, axis=0)
        return np.ascontiguousarray(np.kron(waves, waves)[:, 1:]).astype(np.float32)

    @functools.cached_property
    def rows(self) -> NDArray[np.int64]:
        """The pixels of the support that are estimated: its centre, ((2 p)²,)."""
        centre = np.arange(self.support**2).reshape(self.support, self.support)
        return np.ascontiguousarray(centre[_REACH:-_REACH, _REACH:-_REACH]).reshape(-1).astype(np.int64)

    def crop(self, picture: Picture) -> Picture:
        """The largest part, from the upper left corner, that the patches cover evenly."""
        height, width = (
            FACTOR * ((n // FACTOR - self.patch) // self.stride * self.stride + self.patch) for n in picture.shape
        )
        return picture[:height, :width]

    def degrade(self, picture: Picture) -> Picture:
        """Blurred and downsampled: (height, width) to (height/2, width/2), borders repeated."""
        if picture.ndim != 2 or any(n % FACTOR or n < self.side for n in picture.shape):
            raise InputError(
                "degrade",
                f"a picture of shape {picture.shape}",
                f"even height and width, at least {self.side} each",
                "Crop it first.",
            )
        padded = np.pad(picture, _REACH, mode="edge")
        down = sum(t * padded[i : i + picture.shape[0] : FACTOR] for i, t in enumerate(self.taps))
        both = sum(t * down[:, i : i + picture.shape[1] : FACTOR] for i, t in enumerate(self.taps))
        return np.ascontiguousarray(both, dtype=np.float32)

    def patches(self, low: Picture) -> tuple[Array, Array]:
        """The problems of a low-resolution picture, (N, p²) without their means, and the means, (N, 1)."""
        rows, columns = (self._places(n) for n in low.shape)
        windows = sliding_window_view(low, (self.patch, self.patch))[np.ix_(rows, columns)]
        y = np.ascontiguousarray(windows).reshape(-1, self.patch**2)
        mean = y.mean(1, keepdims=True)
        return y - mean, mean

    def assemble(self, estimates: Array, means: Array, shape: tuple[int, ...]) -> Picture:
        """The picture from the estimates (N, (2 p)²) of all patches of a low-resolution picture of this shape."""
        rows, columns = (self._places(n) for n in shape)
        tiles = (estimates + means).reshape(len(rows), len(columns), self.side, self.side)
        total = np.zeros((FACTOR * shape[0], FACTOR * shape[1]), dtype=np.float32)
        count = np.zeros_like(total)
        for i in range(self.side):
            for j in range(self.side):
                at = np.ix_(FACTOR * rows + i, FACTOR * columns + j)
                total[at] += tiles[:, :, i, j]
                count[at] += 1
        picture: Picture = (total / count).clip(0, 1)
        return picture

    def restore(self, low: Picture, solve: Solve) -> Picture:
        """The high-resolution picture, with `solve` mapping problems (N, p²) to estimates (N, (2 p)²)."""
        y, means = self.patches(low)
        return self.assemble(solve(y), means, low.shape)

    def training_pairs(self, picture: Picture, stride: int) -> tuple[Array, Array]:
        """Problems y (N, p²) and the truth (N, (2 p)²) of a photograph, both less the mean of y, row by row of it."""
        picture = self.crop(picture)
        low = self.degrade(picture)
        spread = SuperResolution(self.blur, self.patch, stride, self.atoms)
        rows, columns = (spread._places(n) for n in low.shape)
        y, means = spread.patches(low)
        windows = sliding_window_view(picture, (self.side, self.side))[np.ix_(FACTOR * rows, FACTOR * columns)]
        truth = np.ascontiguousarray(windows, dtype=np.float32).reshape(len(y), -1)
        return y, np.subtract(truth, means)

    def _places(self, length: int) -> NDArray[np.int64]:
        """Where patches begin along an axis; the last one ends at the border."""
        if length < self.patch:
            raise InputError(
                "patches", f"an axis of {length} pixels", f"at least {self.patch}", "Use a larger picture."
            )
        last = length - self.patch
        return np.unique(np.append(np.arange(0, last + 1, self.stride), last))


def psnr(estimate: Picture, truth: Picture, margin: int = 8) -> float:
    """Peak signal-to-noise ratio in dB for grey values in [0, 1], without a margin of pixels at the borders."""
    if estimate.shape != truth.shape or min(truth.shape) <= 2 * margin:
        raise InputError(
            "psnr",
            f"pictures of shapes {estimate.shape} and {truth.shape}",
            f"equal shapes above {2 * margin} pixels",
            "Compare pictures of one size.",
        )
    inside = slice(margin, -margin or None)
    error = (estimate.astype(np.float64) - truth.astype(np.float64))[inside, inside]
    return float(-10 * np.log10(max(float(np.mean(error**2)), 1e-20)))


def bicubic(low: Picture, sharpness: float = -0.75) -> Picture:
    """2× bicubic interpolation with pixel centres aligned, the kernel's parameter as in PyTorch and OpenCV."""

    def kernel(t: float) -> float:
        t, a = abs(t), sharpness
        return (a + 2) * t**3 - (a + 3) * t**2 + 1 if t <= 1 else a * (t**3 - 5 * t**2 + 8 * t - 4)

    def along(picture: Picture) -> Picture:
        padded = np.pad(picture, ((2, 2), (0, 0)), mode="edge")
        high = np.empty((FACTOR * picture.shape[0], picture.shape[1]), dtype=np.float32)
        for phase, offset in enumerate((-0.25, 0.25)):
            first = -2 + phase  # the four nearest low-resolution pixels lie at first .. first + 3
            weights = [kernel(offset - (first + i)) for i in range(4)]
            high[phase::FACTOR] = sum(
                w * padded[2 + first + i : 2 + first + i + len(picture)] for i, w in enumerate(weights)
            )
        return high

    return np.clip(along(along(low).T).T, 0, 1)
