"""Cases of Fourier transforms and the windows that go with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from operator_cases.cases import CASES, OperatorCase, numbers, shaped


def _dft(x: np.ndarray, length: int | None = None, axis: int | None = None, **attributes: Any) -> None:
    constants = [None if v is None else np.asarray(v) for v in (length, axis)]
    shaped("DFT", x, *constants, opset=20, **attributes)


def _wide(*shape: int) -> np.ndarray:
    return numbers(*shape).astype(np.float64)


for _parts in (1, 2):
    for _inverse in (0, 1):
        _dft(numbers(2, 5, _parts), inverse=_inverse)
        _dft(numbers(2, 5, 3, _parts), None, 1, inverse=_inverse)
        _dft(numbers(2, 6, _parts), 4, -2, inverse=_inverse)
        _dft(numbers(2, 3, _parts), 5, inverse=_inverse)
    shaped("DFT", numbers(2, 4, 3, _parts), opset=17)
    shaped("DFT", numbers(2, 4, 3, _parts), np.asarray(5), opset=17, axis=2)
for _n in (1, 2, 5, 6):
    _dft(numbers(2, _n, 1), onesided=1)
_dft(numbers(3, 8, 1), 6, 0, onesided=1)
_dft(numbers(2, 5, 2).astype(np.float64))
shaped("DFT", numbers(1, 6, 1), opset=17, onesided=1, axis=1)

# In float64: ONNX Runtime computes its twiddle factors one from the other.
for _parts in (1, 2):
    for _one in (0, 1)[: 3 - _parts]:
        _set: dict[str, Any] = {"onesided": _one, "oracle": "onnxruntime"}
        shaped("STFT", _wide(2, 17, _parts), np.asarray(3), _wide(6), **_set)
        shaped("STFT", _wide(1, 9, _parts), np.asarray(2), None, np.asarray(5), **_set)
        shaped("STFT", _wide(1, 9, _parts), np.asarray(4), np.ones(4), np.asarray(4), **_set)

for _name in ("HannWindow", "HammingWindow", "BlackmanWindow"):
    for _size in (1, 2, 7, 10):
        for _periodic in (0, 1)[int(_size == 1) :]:
            _case = OperatorCase(_name, {}, {0: np.asarray(_size)}, {"periodic": _periodic}, 17)
            CASES.append(_case)
    CASES.append(OperatorCase(_name, {}, {0: np.asarray(5)}, {"output_datatype": 11}, 17))
