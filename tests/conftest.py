from __future__ import annotations

import pytest
import torch
from reprise.core.dataset import DatasetInfo


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def mnist4() -> DatasetInfo:
    return DatasetInfo("mnist4", (1, 128, 128), objects=4)


@pytest.fixture(scope="session")
def half_size() -> DatasetInfo:
    return DatasetInfo("digits4", (1, 64, 64), objects=4)
