"""A real browser for tests: the system's Chromium, driven by Playwright.

Where there is none the tests that need it are skipped with the reason, or fail if `HOMEROOM_REQUIRE_COUNTERPARTS=1`.
With `HOMEROOM_SCREENSHOTS=1` the pages that documents show are photographed into `docs/images`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

IMAGES = Path(__file__).parent.parent / "docs" / "images"
NAMES = ("chromium", "chromium-browser", "google-chrome")
STEP_MS = 15_000


def find_chromium() -> str:
    """The path of a browser, or the end of the test."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        reason = "no Chromium is installed here"
        if os.environ.get("HOMEROOM_REQUIRE_COUNTERPARTS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """A browser without a screen."""
    path = find_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def new_device(browser: Browser, **options: Any) -> AsyncIterator[BrowserContext]:
    """A device nobody has used before: no cookies."""
    context = await browser.new_context(viewport={"width": 1000, "height": 760}, **options)
    context.set_default_timeout(STEP_MS)
    try:
        yield context
    finally:
        await context.close()


async def photograph(page: Page, name: str) -> None:
    """Keep what a page looks like, if pictures are wanted."""
    if os.environ.get("HOMEROOM_SCREENSHOTS") == "1":
        IMAGES.mkdir(exist_ok=True)
        await page.screenshot(path=IMAGES / f"{name}.png", full_page=True)
