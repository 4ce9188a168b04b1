"""The colour scheme: that of the system, or the one that the user chose and this browser keeps."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

expect: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect


def brightness(page: Any, tmp_path: Any) -> int:
    """Return how bright the bar is, from 0 to 255."""
    page.screenshot(path=tmp_path / "page.png", clip={"x": 300, "y": 2, "width": 4, "height": 4})
    with Image.open(tmp_path / "page.png") as shot:
        return shot.convert("L").getpixel((1, 1))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_system(open_page, scheme: str, tmp_path):
    page = open_page(color_scheme=scheme)
    assert (brightness(page, tmp_path) > 240) if scheme == "light" else (brightness(page, tmp_path) < 30)


def test_a_chosen_scheme_is_kept_and_shared_between_tabs(open_page, tmp_path):
    page = open_page(color_scheme="light", reduced_motion="reduce")
    other = page.context.new_page()
    other.goto(page.url)
    colours = page.get_by_role("button", name="Colours")
    colours.press("Enter")
    expect(page.get_by_role("radio", name="As the system")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("radio", name="Dark")).to_be_checked()
    assert brightness(page, tmp_path) < 30
    page.keyboard.press("Enter")
    expect(page.get_by_role("radio", name="Dark")).to_be_hidden()
    expect(colours).to_be_focused()
    expect(other.locator("html[data-scheme=dark]")).to_be_attached()
    page.reload(wait_until="commit")
    expect(page.locator("html[data-scheme=dark]")).to_be_attached()
    assert brightness(page, tmp_path) < 30
    colours.click()
    page.get_by_text("As the system").click()
    expect(page.get_by_role("radio", name="Dark")).to_be_hidden()
    assert brightness(page, tmp_path) > 240
