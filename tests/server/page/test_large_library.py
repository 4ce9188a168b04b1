"""Ten thousand pictures: the timeline keeps only what is near in the page, and every picture can be reached."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipkit import Library
from clipkit.catalog.rows import Details, Embedding, NewImage
from server.conftest import Server, running, wait_until

expect: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

PICTURES = 10_000
SHAPES = ((4000, 3000), (3000, 4000), (4000, 2250), (3000, 3000))


@pytest.fixture(scope="module")
def large(library_folder: Path, quick: Any, scene_folder: Path, tmp_path_factory) -> Iterator[Server]:
    """A library of 10,000 records over four years, whose paths are links to few files."""
    folder = tmp_path_factory.mktemp("large")
    copy = folder / "indexes" / "default"
    shutil.copytree(library_folder, copy)
    files = sorted(scene_folder.rglob("*.jpg"))[:40]
    photos = folder / "photos"
    photos.mkdir()
    vectors = np.random.default_rng(7).standard_normal((PICTURES, 256)).astype(np.float32)
    with Library.open(copy) as library, library.catalog.writing():
        ((space, (dimension, _)),) = library.catalog.spaces().items()
        images, embeddings = [], []
        for i in range(PICTURES):
            path = photos / f"P{i:05}.jpg"
            path.hardlink_to(files[i % len(files)])
            taken = datetime(2020, 1, 1) + timedelta(hours=3.5 * i)
            width, height = SHAPES[i % len(SHAPES)]
            details = Details(width, height, "JPEG", taken_at=taken.isoformat(timespec="seconds"))
            status = path.stat()
            images.append(NewImage(path, status.st_size, status.st_mtime_ns, f"{i:032x}", details))
            embeddings.append(Embedding(f"{i:032x}", vectors[i, :dimension]))
        library.catalog.add_roots([photos], [])
        library.catalog.commit_batch(images, space=space, embeddings=embeddings)
        library.catalog.show_by_roots()
    with running(copy, replace(quick, thumbnails=folder / "thumbnails")) as server:
        yield server


def test_ten_thousand_pictures_are_scrolled(open_page, large: Server):
    page = open_page(server=large)
    expect(page.locator(".tile").first).to_be_visible()
    total = large.get("/api/images", {"limit": 1}).json["total"]
    counts = page.evaluate("[...document.querySelectorAll('.month .section-count')].map((one) => one.textContent)")
    assert sum(int(count) for count in counts) == total > PICTURES
    most = 0
    height = page.evaluate("document.documentElement.scrollHeight")
    for share in (0.1, 0.25, 0.4, 0.55, 0.7, 0.85):
        page.evaluate(f"scrollTo(0, {share} * {height})")
        middle = "Boolean(document.elementFromPoint(innerWidth / 2, innerHeight / 2).closest('.tile'))"
        wait_until(lambda: page.evaluate(middle))  # noqa: B023
        most = max(most, page.locator(".tile").count())
    oldest = large.get("/api/images", {"limit": 1, "offset": total - 1}).json["images"][0]["id"]
    last = f'.tile[data-key="{oldest}"]'

    def is_reached() -> bool:
        page.keyboard.press("End")  # again, as the page grows or shrinks when pictures take the place of estimates
        return page.evaluate(f"document.querySelector('{last}')?.getBoundingClientRect().top < innerHeight")

    wait_until(is_reached)
    expect(page.locator(last)).to_be_in_viewport()
    assert most < 2500, "what is far away is emptied"
    page.locator(f"{last} .tile-link").click()
    expect(page.locator(".pswp__counter")).to_have_text(f"{total} / {total}")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".pswp__counter")).to_have_text(f"{total - 1} / {total}")


def test_an_address_leads_into_the_middle(open_page, large: Server):
    page = open_page("/?at=2021-06-15", server=large)
    expect(page.locator('.month[data-month="2021-06"] h2')).to_be_in_viewport()
    expect(page.locator('.month[data-month="2021-06"] .tile').first).to_be_visible()
    top = page.evaluate("scrollY")
    assert top > 5000
    page.locator('.month[data-month="2021-06"] .tile-link').first.click()
    expect(page.locator(".details-facts")).to_contain_text("June 2021")
    page.go_back()
    expect(page.locator(".pswp")).to_have_count(0)
    assert abs(page.evaluate("scrollY") - top) < 400
