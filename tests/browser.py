"""A headless Chromium, for tests that look at a page as a person would."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.conftest import PATIENCE

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # No name resolves: what a browser asks its maker for on its own stays here too.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--hide-scrollbars",
    "--window-size=1300,1000",
    "--virtual-time-budget=4000",
)


class Page(HTMLParser):
    """The elements of a page after its scripts have run: a list of (tag, attributes)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect an element; an attribute without a value counts as empty."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def find(self, **wanted: str) -> list[dict[str, str]]:
        """Attributes of all elements with these attributes; ``class_`` means one of the classes."""
        name = wanted.pop("class_", "")
        return [
            found
            for _, found in self.elements
            if (not name or name in found.get("class", "").split())
            and all(found.get(key.replace("_", "-")) == value for key, value in wanted.items())
        ]

    @property
    def body(self) -> dict[str, str]:
        """Attributes of the body."""
        return next(found for tag, found in self.elements if tag == "body")


def chromium() -> str:
    """Path of a Chromium; skips the test where there is none."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no Chromium here (looked for {', '.join(NAMES)})")
    return path


def browse(address: str, profile: Path, *more: str) -> Page:
    """Open an address in a fresh profile and return the page as it stands when its scripts are done."""
    command = [chromium(), *FLAGS, *more, f"--user-data-dir={profile}", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert "<body" in done.stdout, done.stderr[-2000:]
    return Page(done.stdout)
