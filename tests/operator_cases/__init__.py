"""One case for each way to use each ONNX operator."""

from operator_cases import basic, images, linear_algebra, networks, places, spectra  # noqa: F401  (they add their cases)
from operator_cases.cases import CASES, SPECIAL, OperatorCase, numbers, whole

__all__ = ["CASES", "SPECIAL", "OperatorCase", "numbers", "whole"]
