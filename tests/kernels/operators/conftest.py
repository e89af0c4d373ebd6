"""The cases of the operators as fixtures."""

from __future__ import annotations

import pytest
from operator_cases import CASES, OperatorCase


@pytest.fixture(scope="session")
def operator_cases() -> list[OperatorCase]:
    return CASES


@pytest.fixture(params=CASES, ids=lambda c: f"{c.operator}-{'-'.join(str(list(a.shape)) for a in c.inputs.values())}")
def operator_case(request: pytest.FixtureRequest) -> OperatorCase:
    return request.param  # type: ignore[no-any-return]
