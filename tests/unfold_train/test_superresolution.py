from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch.nn import functional

from unfoldc.errors import InputError
from unfoldc.unfold_train.data.photographs import TEST, TRAINING, photograph
from unfoldc.unfold_train.data.superresolution import SuperResolution, bicubic, psnr


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(5).random((height, width), dtype=np.float32)


def test_sizes_of_the_demo() -> None:
    problem = SuperResolution()
    assert problem.H.shape == (25, 196) and problem.Psi.shape == (196, 143) and problem.rows.shape == (100,)
    np.testing.assert_allclose(problem.H.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(problem.Psi, axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(problem.taps, problem.taps[::-1])
    assert problem.taps[2] / problem.taps[1] == pytest.approx(np.exp((1.5**2 - 0.5**2) / 2), rel=1e-5)


def test_the_operator_is_the_degradation_seen_from_one_patch() -> None:
    problem = SuperResolution()
    image = picture(40, 36)
    low = problem.degrade(image)
    assert low.shape == (20, 18)
    row, column = 4, 6
    support = image[2 * row - 2 : 2 * row + 12, 2 * column - 2 : 2 * column + 12]
    seen = (problem.H @ support.reshape(-1)).reshape(5, 5)
    np.testing.assert_allclose(seen, low[row : row + 5, column : column + 5], atol=1e-6)
    np.testing.assert_array_equal(support.reshape(-1)[problem.rows].reshape(10, 10), image[8:18, 12:22])


@pytest.mark.parametrize("shape", [(19, 21), (20, 18), (5, 5), (64, 7)])
def test_solved_patches_make_the_picture_again(shape: tuple[int, int]) -> None:
    problem = SuperResolution()
    image = picture(2 * shape[0], 2 * shape[1])
    y, means = problem.patches(problem.degrade(image))
    np.testing.assert_allclose(y.mean(1), 0, atol=1e-6)
    assert y.dtype == means.dtype == np.float32 and y.flags.c_contiguous

    def truth(problems: np.ndarray) -> np.ndarray:
        found, tiles = problem.training_pairs(image, problem.stride)
        np.testing.assert_array_equal(found, problems)
        return tiles

    if problem.crop(image).shape == image.shape:
        np.testing.assert_allclose(problem.restore(problem.degrade(image), truth), image, atol=1e-6)
    flat = problem.restore(problem.degrade(image), lambda p: np.zeros((len(p), 100), np.float32))
    assert flat.shape == image.shape and np.isfinite(flat).all()


def test_training_pairs_follow_their_stride() -> None:
    problem = SuperResolution()
    image = picture(50, 50)
    y, truth = problem.training_pairs(image, 3)
    assert len(y) == len(truth) == 64  # 0, 3, ..., 18, and 20 at the border, both ways
    low = problem.degrade(problem.crop(image))
    patch = low[3:8, 6:11]
    np.testing.assert_allclose(y[8 + 2], (patch - patch.mean()).reshape(-1), atol=1e-6)
    np.testing.assert_allclose(truth[8 + 2], (image[6:16, 12:22] - patch.mean()).reshape(-1), atol=1e-6)


def test_crop_keeps_what_patches_cover() -> None:
    problem = SuperResolution()
    assert problem.crop(picture(512, 303)).shape == (510, 302)
    assert problem.crop(picture(11, 10)).shape == (10, 10)


def test_bicubic_is_the_usual_one() -> None:
    low = picture(9, 12)
    expected = functional.interpolate(torch.from_numpy(low)[None, None], scale_factor=2, mode="bicubic")
    np.testing.assert_allclose(bicubic(low), expected[0, 0].clamp(0, 1), atol=1e-6)


def test_psnr() -> None:
    truth = np.full((20, 20), 0.5, dtype=np.float32)
    assert psnr(truth + np.float32(0.1), truth) == pytest.approx(20, abs=1e-4)
    spoiled = truth.copy()
    spoiled[:8] = 1
    assert psnr(spoiled, truth) > 100 > psnr(spoiled, truth, margin=0)


@pytest.mark.parametrize("name", TRAINING + TEST)
def test_photographs_are_grey_values(name: str) -> None:
    grey = photograph(name)
    assert grey.ndim == 2 and grey.dtype == np.float32 and min(grey.shape) >= 300
    assert 0 <= grey.min() < 0.3 and 0.7 < grey.max() <= 1


def test_training_and_test_photographs_differ() -> None:
    assert not set(TRAINING) & set(TEST)
    assert set(TEST) == {"camera.png", "chelsea.png", "coins.png"}


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = SuperResolution()
    with pytest.raises(InputError, match="photograph: '../secret.png'; allowed: astronaut.png"):
        photograph("../secret.png")
    with pytest.raises(InputError, match=re.escape("degrade: a picture of shape (11, 12); allowed: even height")):
        problem.degrade(picture(11, 12))
    with pytest.raises(InputError, match="patches: an axis of 4 pixels; allowed: at least 5"):
        problem.patches(picture(4, 9))
    with pytest.raises(InputError, match=re.escape("psnr: pictures of shapes (20, 20) and (20, 22)")):
        psnr(picture(20, 20), picture(20, 22))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="scikit-image is missing"):
        photograph("camera.png")
