"""Convolutions, padding, pools, resizing and Fourier transforms as torch.onnx.export writes them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import unfoldc
from unfoldc.runtime import Solver

OPSETS = (18, 23)
BACKENDS = ("reference", "c")
BATCH = 3


class Several(nn.Module):
    """Named functions of one input, each an output. `modules` become parameters of the export."""

    def __init__(self, forms: dict[str, Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.forms = forms
        self.inner = nn.ModuleDict({name: form for name, form in forms.items() if isinstance(form, nn.Module)})

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.inner[n](x) if n in self.inner else form(x) for n, form in self.forms.items())


def pair(x: Tensor) -> Tensor:
    """Channels 2 i and 2 i + 1 as complex numbers."""
    return torch.complex(x[:, 0::2], x[:, 1::2])


def real(z: Tensor) -> Tensor:
    return torch.view_as_real(z)


def convolutions() -> dict[str, Callable[[Tensor], Tensor]]:
    modes: tuple[Literal["zeros", "reflect", "replicate", "circular"], ...]
    modes = ("zeros", "reflect", "replicate", "circular")
    return {
        **{m: nn.Conv2d(4, 6, 3, padding=(1, 2), stride=(2, 1), padding_mode=m) for m in modes},
        "same_reflect": nn.Conv2d(4, 2, (4, 3), padding="same", dilation=(1, 2), padding_mode="reflect"),
        "same": nn.Conv2d(4, 3, (4, 2), padding="same", dilation=2, bias=False),
        "grouped": nn.Conv2d(4, 6, 3, groups=2, dilation=(2, 1)),
        "depthwise": nn.Conv2d(4, 4, (1, 5), groups=4, padding=2),
        "line": nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 3, 5, stride=3, padding=2)),
        "space": nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Conv3d(2, 2, (2, 3, 3), padding=1, stride=(1, 2, 2))),
        "back": nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1),
        "back_grouped": nn.ConvTranspose2d(4, 4, (4, 2), stride=(2, 3), groups=2, dilation=(1, 2)),
        "back_plain": nn.ConvTranspose2d(4, 2, 3, padding=1, bias=False, dilation=2),
        "back_line": nn.Sequential(nn.Flatten(2), nn.ConvTranspose1d(4, 2, 5, stride=4, padding=3)),
    }


def pads_and_pools() -> dict[str, Callable[[Tensor], Tensor]]:
    return {
        "constant": lambda x: functional.pad(x, (1, -2, 0, 3), value=0.7),
        "reflect": lambda x: functional.pad(x, (3, 2, 1, 0), mode="reflect"),
        "replicate": lambda x: functional.pad(x, (3, 9, -1, 2), mode="replicate"),
        "circular": lambda x: functional.pad(x, (3, 2, 0, 4), mode="circular"),
        "largest": nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        "largest_dilated": nn.MaxPool2d((2, 3), 1, dilation=(3, 2)),
        "mean": nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        "mean_inside": nn.AvgPool2d((3, 2), (2, 1), 1, count_include_pad=False, ceil_mode=True),
        "norm": nn.LPPool2d(2, 3, 2),
        "line": nn.Sequential(nn.Flatten(2), nn.MaxPool1d(4, 3, 2), nn.AvgPool1d(3)),
        "one": nn.AdaptiveAvgPool2d(1),
        "largest_of_all": nn.AdaptiveMaxPool2d(1),
        "halves": nn.AdaptiveAvgPool2d((3, 4)),
    }


def sizes_and_blocks() -> dict[str, Callable[[Tensor], Tensor]]:
    return {
        "nearest": lambda x: functional.interpolate(x, scale_factor=2, mode="nearest"),
        "nearest_sized": lambda x: functional.interpolate(x, size=(7, 13), mode="nearest"),
        "linear": lambda x: functional.interpolate(x, size=(13, 5), mode="bilinear"),
        "linear_scaled": lambda x: functional.interpolate(x, scale_factor=(1.7, 0.6), mode="bilinear"),
        "linear_ends": lambda x: functional.interpolate(x, size=(4, 11), mode="bilinear", align_corners=True),
        "cubic": lambda x: functional.interpolate(x, scale_factor=1.5, mode="bicubic"),
        "cubic_ends": lambda x: functional.interpolate(x, size=(13, 4), mode="bicubic", align_corners=True),
        "smooth": lambda x: functional.interpolate(x, size=(4, 3), mode="bilinear", antialias=True),
        "line": lambda x: functional.interpolate(x.flatten(2), size=36, mode="linear"),
        "shuffled": nn.PixelShuffle(2),
        "unshuffled": lambda x: functional.pixel_unshuffle(x[:, :, 1:], 2),
        "unfolded": lambda x: functional.unfold(x, (3, 2), padding=(1, 0), stride=(2, 1), dilation=(1, 2)),
        "frames": lambda x: x.unfold(2, 4, 3),
        "folded": lambda x: functional.fold(
            functional.unfold(x, 3, stride=2, padding=1), (9, 8), 3, stride=2, padding=1
        ),
        "rolled": lambda x: torch.roll(x, (2, -3), (2, 3)),
    }


def spectra() -> dict[str, Callable[[Tensor], Tensor]]:
    fft = torch.fft
    return {
        "fft": lambda x: real(fft.fft(x)),
        "rfft": lambda x: real(fft.rfft(x, dim=2)),
        "irfft": lambda x: fft.irfft(pair(x)),
        "irfft_odd": lambda x: fft.irfft(pair(x), n=9, norm="ortho"),
        "fft2": lambda x: real(fft.fft2(pair(x), norm="ortho")),
        "ifft2": lambda x: real(fft.ifft2(pair(x))),
        "rfft2": lambda x: real(fft.rfft2(x)),
        "irfft2": lambda x: fft.irfft2(fft.rfft2(x), s=(9, 8)),
        "fftn": lambda x: real(fft.fftn(pair(x), dim=(1, 2), norm="forward")),
        "centred": lambda x: real(fft.fftshift(fft.fft2(fft.ifftshift(pair(x), dim=(-2, -1))), dim=(-2, -1))),
        "filtered": lambda x: fft.ifft2(fft.fft2(x) * fft.fft2(x.flip(1)).conj()).real,
        "frames": lambda x: real(
            torch.stft(x.flatten(1), 16, 5, window=torch.hann_window(16, dtype=x.dtype), return_complex=True)
        ),
    }


def complex_numbers() -> dict[str, Callable[[Tensor], Tensor]]:
    return {
        "product": lambda x: real(pair(x) * pair(x.flip(1))),
        "scaled": lambda x: real(pair(x) * 2.5 + pair(x) * x[:, :2]),
        "quotient": lambda x: real(pair(x) / pair(x.flip(1))),
        "by_real": lambda x: real(pair(x) / (x[:, :2] ** 2 + 1)),
        "power": lambda x: real(pair(x) * pair(x).conj()),
        "modulus": lambda x: pair(x).abs(),
        "angle": lambda x: pair(x).angle(),
        "parts": lambda x: pair(x).real - pair(x).imag,
        "polar": lambda x: real(torch.polar(x[:, 0], x[:, 1])),
        "summed": lambda x: real(pair(x).sum(1)),
        "turned": lambda x: real(pair(x).transpose(1, 2)[:, 1:]),
        "joined": lambda x: real(torch.cat([pair(x), pair(x.flip(2))], 1)),
        "matrices": lambda x: real(pair(x) @ pair(x).transpose(2, 3)),
    }


GROUPS = {f.__name__: f for f in (convolutions, pads_and_pools, sizes_and_blocks, spectra, complex_numbers)}


@dataclass(frozen=True)
class Exported:
    """The file, problems, and what PyTorch answers in float64."""

    path: Path
    opset: int
    x: np.ndarray
    answers: dict[str, np.ndarray]


EXPORTS = [
    pytest.param((g, o), marks=[pytest.mark.slow] * (o != OPSETS[0] or g == "spectra")) for g in GROUPS for o in OPSETS
]


@pytest.fixture(scope="module", params=EXPORTS, ids=lambda p: f"{p[0]}-{p[1]}")
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    group, opset = request.param
    torch.manual_seed(11)
    torch.set_num_threads(1)
    module = Several(GROUPS[group]()).eval()
    x = torch.randn(BATCH, 4, 9, 8)
    path = tmp_path_factory.mktemp("forms") / f"{group}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (x,),
            dynamo=True,
            verbose=False,
            opset_version=opset,
            output_names=list(module.forms),
            input_names=["x"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    program.save(path)
    with torch.no_grad():
        answers = module.double()(x.double())
    return Exported(path, opset, x.numpy(), {n: a.numpy() for n, a in zip(module.forms, answers, strict=True)})


@pytest.mark.parametrize("backend", BACKENDS)
def test_answers_are_those_of_pytorch(exported: Exported, backend: str) -> None:
    if backend == "c" and exported.opset != OPSETS[0]:
        pytest.skip("the same program, compiled already")
    solver: Solver = unfoldc.compile(exported.path, backend=backend)
    assert solver.backend == backend
    found = solver.run({"x": exported.x}).outputs
    errors = {}
    for name, right in exported.answers.items():
        assert found[name].shape == right.shape, name
        errors[name] = float(np.linalg.norm(found[name] - right) / np.linalg.norm(right))
    assert {name: e for name, e in errors.items() if not e < 2e-6} == {}
