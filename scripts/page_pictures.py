"""Make the pictures of the page that the documentation shows: docs/page-search.jpg, page-missing.jpg and page-edit.jpg.

    python scripts/page_pictures.py                     # needs Playwright and Debian's chromium

The library is that of `clipkit demo`, so that they can be made again; only what is generated differs.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import expect, sync_playwright

DOCS = Path(__file__).parent.parent / "docs"
SIZE = {"width": 1440, "height": 900}
PATIENCE_MS = 300_000


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the demo's library, which is made in `folder`; yield the address."""
    demo = [sys.executable, "-m", "clipkit", "demo", str(folder)]
    subprocess.run(demo, check=True, stdout=subprocess.DEVNULL)
    command = [
        sys.executable,
        "-m",
        "clipkit",
        "serve",
        "--no-open",
        "--port",
        "0",
        "--indexes",
        str(folder / "indexes"),
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.wait(30)


def open_page(browser: Any, address: str, scheme: str) -> Any:
    """Open an address; return the page once its first pictures are there."""
    page = browser.new_page(viewport=SIZE, color_scheme=scheme, reduced_motion="reduce")
    page.set_default_timeout(PATIENCE_MS)
    page.goto(address)
    ready(page)
    return page


def ready(page: Any) -> None:
    """Wait until all pictures in sight are loaded."""
    expect(page.locator(".tile.is-loaded").first).to_be_visible()
    page.wait_for_load_state("networkidle")


def save(page: Any, name: str) -> None:
    """Write what the window shows to the documentation, and close the page."""
    shot = Image.open(io.BytesIO(page.screenshot()))
    shot.convert("RGB").save(DOCS / f"{name}.jpg", quality=86, optimize=True)
    print(DOCS / f"{name}.jpg")
    page.close()


def main() -> None:
    """Make the pictures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    expect.set_options(timeout=PATIENCE_MS)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = open_page(browser, f"{address}?q=in+the+snow", "light")
        page.locator(".tile").nth(2).hover()
        save(page, "page-search")

        page = open_page(browser, f"{address}?q=a+trumpet+in+the+rain", "dark")
        page.locator("#generate-count").select_option("2")
        page.get_by_role("button", name="Generate a picture").click()
        expect(page.locator(".section-generated .tile.is-loaded")).to_have_count(1)
        # The second picture is half made: its bar must be past the steps of a few.
        expect(page.locator(".job-stage")).to_have_text(re.compile(r", [5-9] of \d+|, 1\d of \d+"))
        save(page, "page-missing")

        page = open_page(browser, f"{address}?q=a+cat", "light")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("a")
        page.get_by_role("menuitem", name="Edit").click()
        page.get_by_role("radio", name="Brush").check()
        box = page.locator("#edit-brush").bounding_box()
        page.get_by_label("Size").fill("40")
        page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.62 * box["width"], box["y"] + 0.56 * box["height"], steps=12)
        page.mouse.up()
        page.get_by_label("Paint there").fill("a panda")
        save(page, "page-edit")
        browser.close()


if __name__ == "__main__":
    main()
