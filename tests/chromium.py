"""Chromium as the machine has it, driven by playwright."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence

import pytest
from playwright.sync_api import Browser, sync_playwright

MISSING = "there is no Chromium; on Debian: apt-get install chromium"


@contextlib.contextmanager
def chromium(flags: Sequence[str]) -> Iterator[Browser]:
    """A browser with a new profile. Without Chromium the test is skipped; in CI it fails."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None and os.environ.get("CI"):
        pytest.fail(MISSING)
    if program is None:
        pytest.skip(MISSING)
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=[*flags])
        yield opened
        opened.close()
