"""A search that finds nothing: why, the generation of a picture with live progress, cancel, and what stays after it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from server.page.conftest import parameters

expect: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

MISSING = "/?q=a+violin+on+the+beach"
GENERATED = {"timeout": 240_000}
"""The first generation starts a process and loads the decoder."""


def test_a_miss_says_why_and_generates_with_progress(open_page, own_server):
    page = open_page(MISSING, server=own_server)
    expect(page.get_by_role("heading", name="Nothing in your library matches")).to_be_visible()
    why = re.compile(r"The nearest picture .* \(confidence 0\.\d\d, a match needs 0\.\d\d\)\.")
    expect(page.locator(".missing-why")).to_have_text(why)
    expect(page.get_by_role("heading", name="Nearest pictures")).to_be_visible()
    expect(page.get_by_role("heading", name="Matches", exact=True)).to_be_hidden()
    page.evaluate(
        """() => {
            window.stages = [];
            const stage = document.querySelector(".job-stage");
            new MutationObserver(() => window.stages.push(stage.textContent)).observe(stage, { childList: true });
        }"""
    )
    page.get_by_role("button", name="Generate a picture").click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.locator(".section-generated .tile")).to_have_count(1, **GENERATED)
    expect(page.locator(".section-generated .badge")).to_be_visible()
    expect(page.get_by_role("button", name="Generate a picture")).to_be_visible()
    steps = [tuple(map(int, found)) for found in re.findall(r", (\d+) of (\d+)", "\n".join(page.evaluate("stages")))]
    assert len(steps) > 2 and steps == sorted(steps), "the bar advances"
    state = parameters(page)
    assert len(state["made"]) == 1 and "job" not in state
    page.reload()
    expect(page.locator(".section-generated .tile")).to_have_count(1)
    page.locator(".section-generated .tile-link").click()
    expect(page.locator(".details .badge")).to_be_visible()
    expect(page.locator(".details-facts")).to_contain_text("a violin on the beach")
    page.keyboard.press("Escape")
    page.wait_for_url(lambda address: "open=" not in address)
    page.get_by_role("link", name="Generated", exact=True).click()
    expect(page.locator(f'.is-all .tile[data-key="generated:{state["made"][0]}"]')).to_be_visible()


def test_a_generation_is_cancelled(open_page, own_server):
    page = open_page(MISSING, server=own_server)
    page.locator("#generate-count").select_option("4")
    page.get_by_role("button", name="Generate a picture").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".job-message")).to_have_text("Cancelled.", **GENERATED)
    expect(page.get_by_role("button", name="Generate a picture")).to_be_visible()
    assert "job" not in parameters(page)
    assert page.locator(".section-generated .tile").count() < 4, "no job has made all it was asked for"


def test_a_reload_goes_on_following_the_generation(open_page, own_server):
    page = open_page(MISSING, server=own_server)
    expect(page.get_by_role("button", name="Generate a picture")).to_be_visible()
    before = page.locator(".section-generated .tile").count()  # one from an earlier search may be shown
    page.keyboard.press("g")
    page.wait_for_url(re.compile("job="))
    page.reload()
    expect(page.locator(".job")).to_be_visible()
    expect(page.locator(".section-generated .tile")).to_have_count(before + 1, **GENERATED)
    expect(page.locator(".job")).to_be_hidden()
    assert "job" not in parameters(page)
