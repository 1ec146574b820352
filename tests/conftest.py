from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

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


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium, driven by Playwright; REPRISE_BROWSER=required turns a missing one into a failure."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found = None
    if found is None:
        why = "no Chromium: `apt-get install chromium` and `pip install 'reprise[browser]'` let this test run"
        if os.environ.get("REPRISE_BROWSER") == "required":
            pytest.fail(why)
        pytest.skip(why)
    # Debian's package; in a container there is neither a sandbox nor a GPU, and nothing may call home.
    flags = [
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-component-update",
    ]
    flags += ["disable-background-networking", "disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=["--headless", *(f"--{flag}" for flag in flags)]
        )
        yield browser
        browser.close()
